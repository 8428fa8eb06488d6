"""APuDAE: gradient descent on images until their reconstruction error is that of clean images.

Let A be the denoiser, RE(X) the sum over all elements of (X - A(X))^2 for each image (equation 7),
mu and sigma its mean and standard deviation on held-out clean images, and X_0 the input. All
variants take `steps` steps from X_0 and return the last image, clipped to [0,1]. "Adam on L" means
X_{i+1} = X_i - rate * m_i / (sqrt(v_i) + epsilon) with the bias-corrected moments of dL(X_i)/dX_i
(betas 0.9 and 0.999, epsilon 1e-8), which are reset at each call and kept for each image.

All can be differentiated through their steps. All raise BadInput for an empty batch, for values
that are not finite or outside [0,1], and, if they use it, for a missing calibration.

Arguments:

    images: float [N,C,H,W] in [0,1].
    error: images -> RE [N].
    calibration: mu as `mean` and sigma as `deviation`.
    noise: one random stream per image.

`rate` is a step size in pixel units, for the variants with Adam that of a single step.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.purifiers._checks import check_images, mean_and_deviation
from advdenoise.purifiers._descent import Adam, ErrorFunction, Gradient, ImageFunction, descend
from advdenoise.purifiers._transform import random_transform
from advdenoise.ranges import Angle, Decay, Pixel, PositiveFloat, PositiveInt, StepSize

FORMS = ("sigmoid", "gaussian")


def a(
    images: Tensor,
    error: ImageFunction,
    *,
    steps: PositiveInt = 15,
    rate: PositiveFloat = 0.01,
    sign: bool = False,
) -> Tensor:
    """X_{i+1} = X_i - rate * dRE(X_i)/dX_i, or its sign (equation 8; rows A of Table 3).

    The paper takes 12, 15 and 18 steps. With `sign`, a rate of 1/255 is suitable.
    """
    return descend(images, error, steps, Gradient(rate, sign))


def b(
    images: Tensor, error: ImageFunction, *, steps: PositiveInt = 12, rate: StepSize = 1 / 255
) -> Tensor:
    """Adam on RE (equation 9)."""
    return descend(images, error, steps, Adam(rate))


def c(
    images: Tensor,
    error: ImageFunction,
    calibration: dict | None,
    *,
    steps: PositiveInt = 16,
    rate: StepSize = 1 / 255,
    form: Literal["sigmoid", "gaussian"] = "sigmoid",
    each_step: bool = False,
) -> Tensor:
    """Adam on RE with the rate `rate` * s, where s depends on the image's error (equation 10).

    `form: sigmoid` is s = 1 / (1 + exp(-(RE - mu) / sigma)), as in the authors' program;
    `form: gaussian` is s = 1 - exp(-(RE - mu)^2 / (2 sigma^2)) for RE > mu and else 0, closer to
    the text's "probability of falling within". RE is RE(X_0), or RE(X_i) with `each_step`.
    """
    if form not in FORMS:
        raise BadInput(f"apudae.c: settings.form: must be one of {', '.join(FORMS)}, got {form!r}")
    mean, deviation = mean_and_deviation(calibration, "apudae.c")

    def sigmoid(errors: Tensor) -> Tensor:
        return torch.sigmoid((errors - mean) / deviation)

    def gaussian(errors: Tensor) -> Tensor:
        return -torch.expm1(-((errors - mean).clamp_min(0) / deviation).square() / 2)

    scale = sigmoid if form == "sigmoid" else gaussian
    return descend(images, error, steps, Adam(rate, scale, each_step))


def d(
    images: Tensor,
    error: ImageFunction,
    calibration: dict | None,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
) -> Tensor:
    """Adam on (RE - mu)^2 / sigma^2, which maximises exp(-(RE - mu)^2 / sigma^2) (equation 11)."""
    mean, deviation = mean_and_deviation(calibration, "apudae.d")

    def loss(errors: Tensor) -> Tensor:
        return ((errors - mean) / deviation).square()

    return descend(images, error, steps, Adam(rate), loss=loss)


def e(
    images: Tensor,
    error: ImageFunction,
    calibration: dict | None,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
    rest: bool = False,
) -> Tensor:
    """Adam on max(RE - mu, 0)^2 / sigma^2 (row E of Table 3).

    An image with RE(X_0) <= mu does not change. One that reaches RE <= mu later keeps moving by
    Adam's first moment, as in the authors' program; with `rest` it does not move while
    RE(X_i) <= mu.
    """
    mean, _ = distribution = mean_and_deviation(calibration, "apudae.e")
    scale = _is_above(mean) if rest else None
    rule = Adam(rate, scale, each_step=True)
    return descend(images, error, steps, rule, loss=_excess(*distribution))


def f(
    images: Tensor,
    error: ImageFunction,
    calibration: dict | None,
    noise: Noise,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
    amount: Pixel = 0.7 / 255,
    deviation: PositiveFloat | None = None,
) -> Tensor:
    """E with noise U(-e_i, e_i) added to the image at each step (equation 12).

    e_i = amount * min(((RE(X_i) - mu) / (2 sigma))^2, 4), `amount` in pixel units. The gradient is
    computed before the noise is added, as in the authors' program; images with RE < mu get noise,
    too. `deviation` > 0 replaces the sigma of the calibration: the authors' logged run has 0.5
    instead of its 0.923, so that the noise is largest from RE - mu = 2 on. (The descent does not
    depend on it, since Adam is invariant to the scale of the loss.)
    """
    distribution = mean_and_deviation(calibration, "apudae.f")
    if deviation is not None:
        distribution = mean_and_deviation(
            {**(calibration or {}), "deviation": deviation}, "apudae.f"
        )
    return descend(
        images,
        error,
        steps,
        Adam(rate),
        loss=_excess(*distribution),
        add_noise=_add_noise(noise, amount, *distribution),
    )


def g(
    images: Tensor,
    error: ImageFunction,
    calibration: dict | None,
    noise: Noise,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
    resize: Decay = 0.1,
    rotation: Angle = 10.0,
    each_step: bool = False,
) -> Tensor:
    """E from X_0 = t(X; r, angle), a random resizing and rotation (equation 13).

    r ~ U(1 - resize, 1 + resize) about the centre, padded with 0 or cropped; the angle is
    U(-rotation, rotation) in degrees. With `each_step` a new t is applied before every step.
    """
    loss = _excess(*mean_and_deviation(calibration, "apudae.g"))
    images, transform = _random_transform(images, noise, resize, rotation, each_step)
    return descend(images, error, steps, Adam(rate), loss=loss, random_transform=transform)


def a_with_noise(
    images: Tensor,
    error: ImageFunction,
    calibration: dict | None,
    noise: Noise,
    *,
    steps: PositiveInt = 15,
    rate: PositiveFloat = 0.01,
    amount: Pixel = 0.7 / 255,
) -> Tensor:
    """A with the noise of F at each step (row B of Table 4, ImageNet)."""
    distribution = mean_and_deviation(calibration, "apudae.a_with_noise")
    add_noise = _add_noise(noise, amount, *distribution)
    return descend(images, error, steps, Gradient(rate), add_noise=add_noise)


def a_transformed(
    images: Tensor,
    error: ImageFunction,
    noise: Noise,
    *,
    steps: PositiveInt = 15,
    rate: PositiveFloat = 0.01,
    resize: Decay = 0.1,
    rotation: Angle = 10.0,
    each_step: bool = False,
) -> Tensor:
    """A after the random resizing and rotation of G, or with one before every step.

    Row C of Table 4, ImageNet, whose heading says "at each step" and whose sentence says "before".
    """
    images, transform = _random_transform(images, noise, resize, rotation, each_step)
    return descend(images, error, steps, Gradient(rate), random_transform=transform)


def _is_above(mean: float) -> ErrorFunction:
    return lambda errors: (errors > mean).to(errors.dtype)


def _excess(mean: float, deviation: float) -> ErrorFunction:
    return lambda errors: ((errors - mean).clamp_min(0) / deviation).square()


def _add_noise(noise: Noise, amount: float, mean: float, deviation: float) -> Callable:
    """The noise of F: drawn for images, then scaled by their errors and added."""

    def draw(images: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        random = noise.uniform(images, -1, 1).to(images.dtype)

        def noisy(images: Tensor, errors: Tensor) -> Tensor:
            amplitude = amount * ((errors - mean) / (2 * deviation)).square().clamp_max(4)
            return images.addcmul(random, amplitude.view(-1, 1, 1, 1))

        return noisy

    return draw


def _random_transform(
    images: Tensor, noise: Noise, resize: float, rotation: float, each_step: bool
) -> tuple[Tensor, ImageFunction | None]:
    """The transformed images and None, or the images and the transform of each step."""
    check_images(images)
    if each_step:
        return images, lambda images: random_transform(images, noise, resize, rotation)
    return random_transform(images, noise, resize, rotation)(images), None
