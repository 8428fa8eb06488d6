"""Common corruptions of five severities (Hendrycks & Dietterich 2019, ImageNet-C).

They need no model. Each returns a perturbation of `images` (float [N,C,H,W] in [0,1]), so that
images + perturbation is the corrupted image, inside [0,1]. `severity` is 1 (mild) to 5 (strong),
with that paper's parameters for ImageNet; other values raise BadInput. Random numbers are drawn
from `noise`, one random stream per image.
"""

import io
from collections.abc import Sequence
from typing import Annotated, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from advdenoise.attacks import noise as additive
from advdenoise.attacks._ball import limits
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import Interval

# Standard deviation of the noise, in pixel units.
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
# Standard deviation of the blur, in pixels.
BLUR = (1, 2, 3, 4, 6)
# JPEG quality, of 100.
QUALITY = (25, 18, 15, 10, 7)
# Radius of the blur's kernel, in standard deviations.
TRUNCATE = 4

_Value = TypeVar("_Value", int, float)


def gaussian_noise(
    images: Tensor, noise: Noise, *, severity: Annotated[int, Interval(ge=1, le=5)]
) -> Tensor:
    """N(0, s^2) for each element, s = 0.08, 0.12, 0.18, 0.26 or 0.38."""
    return additive.gaussian(images, noise, sigma=_at(NOISE, severity))


def gaussian_blur(images: Tensor, *, severity: Annotated[int, Interval(ge=1, le=5)]) -> Tensor:
    """Gaussian blur of 1, 2, 3, 4 or 6 pixels, with replicated borders."""
    sigma = _at(BLUR, severity)
    radius = TRUNCATE * sigma
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = (-(offsets**2) / (2 * sigma**2)).exp()
    weights /= weights.sum()
    blurred = images.flatten(0, 1)[:, None]
    # First along the columns, then along the rows.
    for padding, shape in (((0, 0, radius, radius), (-1, 1)), ((radius, radius, 0, 0), (1, -1))):
        padded = functional.pad(blurred, padding, mode="replicate")
        blurred = functional.conv2d(padded, weights.view(1, 1, *shape))
    return _perturbation(blurred.view(images.shape), images)


def jpeg(images: Tensor, *, severity: Annotated[int, Interval(ge=1, le=5)]) -> Tensor:
    """JPEG compression of the 8-bit image at quality 25, 18, 15, 10 or 7, with Pillow's defaults.

    Raises BadInput for images without 1 or 3 channels.
    """
    quality = _at(QUALITY, severity)
    if images.shape[1] not in (1, 3):
        raise BadInput(
            f"attacks: corruptions.jpeg: images must have 1 or 3 channels, got {images.shape[1]}; "
            "choose another corruption"
        )
    pixels = images.mul(255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    decoded = np.stack([_through_jpeg(image, quality) for image in pixels])
    corrupted = torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images.device, images.dtype)
    return _perturbation(corrupted / 255, images)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode an image, uint8 [H,W,C] both."""
    with io.BytesIO() as file:
        # Pillow expects grey images without a channel axis.
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
            file, "JPEG", quality=quality
        )
        with Image.open(file) as stored:
            return np.asarray(stored).reshape(image.shape)


def _at(values: Sequence[_Value], severity: int) -> _Value:
    if severity not in range(1, 1 + len(values)):
        raise BadInput(f"settings.severity: must be 1 (mild) to 5 (strong), got {severity}")
    return values[severity - 1]


def _perturbation(corrupted: Tensor, images: Tensor) -> Tensor:
    """The difference of corrupted and clean images, with their sum inside [0,1] after rounding."""
    return (corrupted - images).clamp_(*limits(images, 1.0))
