"""Random resize and rotation of each image, differentiable."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.noise import Noise


def drawn(
    images: Tensor, noise: Noise, resize: float, rotation: float
) -> Callable[[Tensor], Tensor]:
    """One random transformation for each image: a function of images.

    An image is resized by r ~ U(1 - resize, 1 + resize) about its centre, padded with 0 or cropped
    to its own size, and turned by U(-rotation, rotation) degrees, all in one bilinear resampling.
    """
    random = noise.uniform(images.new_empty(len(images), 2), -1, 1).to(images.dtype)
    factor, angle = 1 + resize * random[:, 0], math.radians(rotation) * random[:, 1]
    grid = _grid(factor, angle, *images.shape[2:])
    last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format

    def transform(given: Tensor) -> Tensor:
        moved = functional.grid_sample(given, grid, align_corners=False)
        return moved.contiguous(memory_format=layout)

    return transform


def _grid(factor: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel comes from, [N,H,W,2]: x and y, sides going from -1 to 1."""
    cosine, sine = ((part / factor).view(-1, 1, 1) for part in (torch.cos(angle), torch.sin(angle)))
    down, right = _centres(height, angle)[:, None], _centres(width, angle)
    x = cosine * right - sine * height / width * down
    y = sine * width / height * right + cosine * down
    return torch.stack([x, y], dim=3)


def _centres(side: int, like: Tensor) -> Tensor:
    """Of the pixels along a side from -1 to 1."""
    places = torch.arange(side, dtype=like.dtype, device=like.device)
    return (2 * places + 1) / side - 1
