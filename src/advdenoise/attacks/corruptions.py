"""Common corruptions of five severities (Hendrycks & Dietterich 2019, ImageNet-C).

They look at no model. Each returns the perturbation of `images` (float [N,C,H,W] in [0,1]), so that
images + perturbation is the corrupted image, inside [0,1]. `severity` is 1 to 5, in that paper's
numbers for ImageNet; another raises BadInput. What is random is drawn from `noise`, one random
stream per image.
"""

import io
from collections.abc import Sequence
from typing import Annotated

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

# Standard deviation of the noise, in pixel units
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
# Standard deviation of the blur, in pixels
BLUR = (1, 2, 3, 4, 6)
# JPEG's quality, of 100
QUALITY = (25, 18, 15, 10, 7)
# The blur's kernel ends at so many standard deviations.
TRUNCATE = 4


def gaussian_noise(
    images: Tensor, noise: Noise, *, severity: Annotated[int, Interval(ge=1, le=5)]
) -> Tensor:
    """N(0, s^2) for every element, s = 0.08, 0.12, 0.18, 0.26 or 0.38."""
    return additive.gaussian(images, noise, sigma=_at(NOISE, severity))


def gaussian_blur(images: Tensor, *, severity: Annotated[int, Interval(ge=1, le=5)]) -> Tensor:
    """A Gaussian of 1, 2, 3, 4 or 6 pixels; what lies outside the image is its nearest pixel."""
    sigma = _at(BLUR, severity)
    radius = TRUNCATE * sigma
    places = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = (-(places**2) / (2 * sigma**2)).exp()
    weights /= weights.sum()
    blurred = images.flatten(0, 1)[:, None]
    # First along the columns, then along the rows
    for margins, shape in (((0, 0, radius, radius), (-1, 1)), ((radius, radius, 0, 0), (1, -1))):
        padded = functional.pad(blurred, margins, mode="replicate")
        blurred = functional.conv2d(padded, weights.view(1, 1, *shape))
    return _to(blurred.view(images.shape), images)


def jpeg(images: Tensor, *, severity: Annotated[int, Interval(ge=1, le=5)]) -> Tensor:
    """The 8-bit image through JPEG of quality 25, 18, 15, 10 or 7, with Pillow's defaults.

    Raises BadInput for images that have neither one channel nor three.
    """
    quality = _at(QUALITY, severity)
    if images.shape[1] not in (1, 3):
        raise BadInput(
            f"attacks: corruptions.jpeg takes images of 1 or 3 channels, not of {images.shape[1]}; "
            "take another corruption"
        )
    pixels = images.mul(255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    read = np.stack([_through_jpeg(image, quality) for image in pixels])
    back = torch.from_numpy(read).permute(0, 3, 1, 2).to(images.device, images.dtype)
    return _to(back / 255, images)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 [H,W,C] written and read: the same shape."""
    with io.BytesIO() as file:
        # Grey images have no third axis in Pillow.
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
            file, "JPEG", quality=quality
        )
        with Image.open(file) as stored:
            return np.asarray(stored).reshape(image.shape)


def _at(values: Sequence[float], severity: int) -> float:
    if severity not in range(1, 1 + len(values)):
        raise BadInput(f"settings.severity: {severity} is none; take 1 (mild) to 5 (strong)")
    return values[severity - 1]


def _to(corrupted: Tensor, images: Tensor) -> Tensor:
    """The perturbation that makes `images` these, up to rounding inside [0,1]."""
    return (corrupted - images).clamp_(*limits(images, 1.0))
