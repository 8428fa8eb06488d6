"""Random perturbations, which need no model: used as attacks, corruptions and training noise.

Each returns a perturbation of `images` (float [N,C,H,W] in [0,1]), drawn from `noise` (one random
stream per image) and clipped so that images + perturbation is inside [0,1]. Settings are in pixel
units.
"""

import math

from torch import Tensor

from advdenoise.attacks._ball import limits
from advdenoise.noise import Noise
from advdenoise.ranges import Epsilon, Pixel, Std


def uniform(images: Tensor, noise: Noise, *, epsilon: Epsilon | Tensor) -> Tensor:
    """U(-epsilon, epsilon) for each element (Kalaria et al. 2022, equation 1: RANDOM)."""
    return _clipped(noise.uniform(images, -epsilon, epsilon), images, epsilon)


def gaussian(images: Tensor, noise: Noise, *, sigma: Std) -> Tensor:
    """N(0, sigma^2) for each element (Cho et al. 2020, Gaussian noise)."""
    return _clipped(noise.normal(images, sigma), images)


def blind_gaussian(images: Tensor, noise: Noise, *, sigma_max: Std) -> Tensor:
    """N(0, s^2) for each element, s ~ U(0, sigma_max) for each image.

    Source: Kalaria et al. 2022, equation 5.
    """
    sigma = noise.uniform(images.new_empty(len(images), 1, 1, 1), 0, sigma_max)
    return _clipped(noise.normal(images, sigma), images)


def bimodal(images: Tensor, noise: Noise, *, mode: Pixel, sigma: Std) -> Tensor:
    """N(-mode, sigma^2) or N(mode, sigma^2) for each element, with equal probability.

    Source: Cho et al. 2020.
    """
    centre = mode * (noise.uniform(images, -0.5, 0.5) < 0).to(images.dtype).mul_(2).sub_(1)
    return _clipped(noise.normal(images, sigma) + centre, images)


def _clipped(noise: Tensor, images: Tensor, epsilon: float | Tensor = math.inf) -> Tensor:
    return noise.to(images.dtype).clamp_(*limits(images, epsilon))
