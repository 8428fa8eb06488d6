"""Random resize and rotation of each image, differentiable."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from scripts.advdenoise.noise import Noise


def drawn(
    images: Tensor, noise: Noise, resize: float, rotation: float
) -> Callable[[Tensor], Tensor]:
    """One random transformation for each image: a function of images.

    An image is resized by r ~ U(1 - resize, 1 + resize) about its centre, padded with 0 or cropped
    to its own size, and turned by U(-rotation, rotation) degrees, all in one bilinear resampling.
    """
    random = noise.uniform(images.new_empty(len(images), 2), -1, 1).to(images.dtype)
    factor, angle = 1 + resize * random[:, 0], math.radians(rotation) * random[:, 1]
    grid = functional.affine_grid(
        _inverse(factor, angle, *images.shape[2:]), list(images.shape), align_corners=False
    )
    last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format

    def transform(given: Tensor) -> Tensor:
        moved = functional.grid_sample(given, grid, align_corners=False)
        return moved.contiguous(memory_format=layout)

    return transform


def _inverse(factor: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """From a place in the new image to one in the old, [N,2,3], sides going from -1 to 1."""
    cosine, sine, zero = torch.cos(angle) / factor, torch.sin(angle) / factor, angle * 0
    rows = [
        torch.stack([cosine, -sine * height / width, zero], dim=1),
        torch.stack([sine * width / height, cosine, zero], dim=1),
    ]
    return torch.stack(rows, dim=1)
