"""Random resizing and rotation of each image, differentiable."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.noise import Noise


def random_transform(
    images: Tensor, noise: Noise, resize: float, rotation: float
) -> Callable[[Tensor], Tensor]:
    """A function that transforms images [N,C,H,W], each by its own random numbers.

    An image is resized about its centre by r ~ U(1 - resize, 1 + resize), padded with 0 or cropped
    to its size, and rotated by U(-rotation, rotation) degrees, all in one bilinear resampling.
    """
    random = noise.uniform(images.new_empty(len(images), 2), -1, 1).to(images.dtype)
    factor, angle = 1 + resize * random[:, 0], math.radians(rotation) * random[:, 1]
    grid = _grid(factor, angle, *images.shape[2:])
    is_nhwc = images.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if is_nhwc else torch.contiguous_format

    def transform(images: Tensor) -> Tensor:
        transformed = functional.grid_sample(images, grid, align_corners=False)
        return transformed.contiguous(memory_format=memory_format)

    return transform


def _grid(factor: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """The source of each pixel, [N,H,W,2]: x and y in grid_sample's coordinates (-1..1)."""
    cosine, sine = ((part / factor).view(-1, 1, 1) for part in (torch.cos(angle), torch.sin(angle)))
    rows, columns = _centres(height, angle)[:, None], _centres(width, angle)
    x = cosine * columns - sine * height / width * rows
    y = sine * width / height * columns + cosine * rows
    return torch.stack([x, y], dim=3)


def _centres(side: int, like: Tensor) -> Tensor:
    """The coordinates of the centres of the pixels along a side, which extends from -1 to 1."""
    pixels = torch.arange(side, dtype=like.dtype, device=like.device)
    return (2 * pixels + 1) / side - 1
