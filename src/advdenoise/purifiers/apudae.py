"""APuDAE: images changed until their reconstruction error is that of clean images.

With A the denoiser, RE(X) = sum over all elements of (X - A(X))^2 for each image (equation 7), mu
and sigma its mean and standard deviation on held-out clean images, X_0 the image given: all
variants take `steps` steps from X_0 and give the last image clipped to [0,1]. Where "Adam on L" is
written, each image has moments of its own (decay 0.9 and 0.999, epsilon 1e-8), fresh for each call,
and X_{i+1} = X_i - rate * m_i / (sqrt(v_i) + epsilon) with the corrected moments of dL(X_i)/dX_i.

All can be differentiated through their steps. All raise BadInput for an empty batch, for values
that are not finite or lie outside [0,1], and, where they use it, for a missing calibration.

What they are handed: `images` float [N,C,H,W] in [0,1]; `error`, images -> RE [N]; `calibration`,
mu as `mean` and sigma as `deviation`; `noise`, one random stream per image.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.purifiers._checks import check_images, mean_and_deviation
from advdenoise.purifiers._descent import Adam, Gradient, OfErrors, OfImages, descend
from advdenoise.purifiers._transform import drawn
from advdenoise.ranges import Angle, Decay, Pixel, PositiveFloat, PositiveInt, StepSize

FORMS = ("sigmoid", "gaussian")


def a(
    images: Tensor,
    error: OfImages,
    *,
    steps: PositiveInt = 15,
    rate: PositiveFloat = 0.01,
    sign: bool = False,
) -> Tensor:
    """X_{i+1} = X_i - rate * dRE(X_i)/dX_i, or the sign of it (equation 8; rows A of Table 3).

    The paper's steps are 12, 15 and 18; with `sign` a rate of 1/255 fits.
    """
    return descend(images, error, steps, Gradient(rate, sign))


def b(
    images: Tensor, error: OfImages, *, steps: PositiveInt = 12, rate: StepSize = 1 / 255
) -> Tensor:
    """Adam on RE (equation 9)."""
    return descend(images, error, steps, Adam(rate))


def c(
    images: Tensor,
    error: OfImages,
    calibration: dict | None,
    *,
    steps: PositiveInt = 16,
    rate: StepSize = 1 / 255,
    form: Literal["sigmoid", "gaussian"] = "sigmoid",
    each_step: bool = False,
) -> Tensor:
    """Adam on RE with the rate `rate` * s, s from the image's own error (equation 10).

    `form` sigmoid: s = 1 / (1 + exp(-(RE - mu) / sigma)), as the authors' program has it; gaussian:
    s = 1 - exp(-(RE - mu)^2 / (2 sigma^2)) for RE > mu, else 0, nearer to the text's "probability
    of falling within". RE is RE(X_0), or RE(X_i) with `each_step`.
    """
    if form not in FORMS:
        raise BadInput(f"apudae.c: settings.form: {form!r} is none of {', '.join(FORMS)}")
    mean, deviation = mean_and_deviation(calibration, "apudae.c")

    def sigmoid(found: Tensor) -> Tensor:
        return torch.sigmoid((found - mean) / deviation)

    def gaussian(found: Tensor) -> Tensor:
        return -torch.expm1(-((found - mean).clamp_min(0) / deviation).square() / 2)

    scale = sigmoid if form == "sigmoid" else gaussian
    return descend(images, error, steps, Adam(rate, scale, each_step))


def d(
    images: Tensor,
    error: OfImages,
    calibration: dict | None,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
) -> Tensor:
    """Adam on (RE - mu)^2 / sigma^2, which raises exp(-(RE - mu)^2 / sigma^2) (equation 11)."""
    mean, deviation = mean_and_deviation(calibration, "apudae.d")

    def loss(found: Tensor) -> Tensor:
        return ((found - mean) / deviation).square()

    return descend(images, error, steps, Adam(rate), loss=loss)


def e(
    images: Tensor,
    error: OfImages,
    calibration: dict | None,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
    rest: bool = False,
) -> Tensor:
    """Adam on max(RE - mu, 0)^2 / sigma^2 (row E of Table 3).

    An image with RE(X_0) <= mu does not change. One that comes to RE <= mu on its way is carried on
    by Adam's mean of earlier gradients, as in the authors' program; with `rest` it stays where it
    is as long as RE(X_i) <= mu.
    """
    mean, _ = distribution = mean_and_deviation(calibration, "apudae.e")
    scale = _above(mean) if rest else None
    rule = Adam(rate, scale, each_step=True)
    return descend(images, error, steps, rule, loss=_excess(*distribution))


def f(
    images: Tensor,
    error: OfImages,
    calibration: dict | None,
    noise: Noise,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
    amount: Pixel = 0.7 / 255,
    deviation: PositiveFloat | None = None,
) -> Tensor:
    """E, and U(-e_i, e_i) added to the image at each step (equation 12).

    e_i = amount * min(((RE(X_i) - mu) / (2 sigma))^2, 4). The gradient is taken before the noise is
    added, as in the authors' program; images with RE < mu get noise too. `deviation` > 0 is sigma
    in the calibration's place: the authors' logged run has 0.5 for its own 0.923, so that the noise
    is largest from RE - mu = 2 on. (The loss does not depend on it: Adam ignores its scale.)
    """
    distribution = mean_and_deviation(calibration, "apudae.f")
    if deviation is not None:
        distribution = mean_and_deviation({**calibration, "deviation": deviation}, "apudae.f")
    return descend(
        images,
        error,
        steps,
        Adam(rate),
        loss=_excess(*distribution),
        shake=_shake(noise, amount, *distribution),
    )


def g(
    images: Tensor,
    error: OfImages,
    calibration: dict | None,
    noise: Noise,
    *,
    steps: PositiveInt = 13,
    rate: StepSize = 2 / 255,
    resize: Decay = 0.1,
    rotation: Angle = 10.0,
    each_step: bool = False,
) -> Tensor:
    """E from X_0 = t(X; r, angle), a random resize and rotation (equation 13).

    r ~ U(1 - resize, 1 + resize) about the centre, padded with 0 or cropped; the angle is
    U(-rotation, rotation) degrees. With `each_step` another t comes before every step.
    """
    loss = _excess(*mean_and_deviation(calibration, "apudae.g"))
    images, turn = _turn(images, noise, resize, rotation, each_step)
    return descend(images, error, steps, Adam(rate), loss=loss, turn=turn)


def a_with_noise(
    images: Tensor,
    error: OfImages,
    calibration: dict | None,
    noise: Noise,
    *,
    steps: PositiveInt = 15,
    rate: PositiveFloat = 0.01,
    amount: Pixel = 0.7 / 255,
) -> Tensor:
    """A with the noise of F at each step (row B of Table 4, ImageNet)."""
    distribution = mean_and_deviation(calibration, "apudae.a_with_noise")
    shake = _shake(noise, amount, *distribution)
    return descend(images, error, steps, Gradient(rate), shake=shake)


def a_transformed(
    images: Tensor,
    error: OfImages,
    noise: Noise,
    *,
    steps: PositiveInt = 15,
    rate: PositiveFloat = 0.01,
    resize: Decay = 0.1,
    rotation: Angle = 10.0,
    each_step: bool = False,
) -> Tensor:
    """A from the random resize and rotation of G, or with one before every step (row C of Table 4,
    ImageNet; the heading there says "at each step", the sentence "before")."""
    images, turn = _turn(images, noise, resize, rotation, each_step)
    return descend(images, error, steps, Gradient(rate), turn=turn)


def _above(mean: float) -> OfErrors:
    return lambda found: (found > mean).to(found.dtype)


def _excess(mean: float, deviation: float) -> OfErrors:
    return lambda found: ((found - mean).clamp_min(0) / deviation).square()


def _shake(noise: Noise, amount: float, mean: float, deviation: float):
    """Draws for images; then adds to images of these errors their noise."""

    def shake(images: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        random = noise.uniform(images, -1, 1).to(images.dtype)

        def shaken(given: Tensor, found: Tensor) -> Tensor:
            most = amount * ((found - mean) / (2 * deviation)).square().clamp_max(4)
            return given.addcmul(random, most.view(-1, 1, 1, 1))

        return shaken

    return shake


def _turn(images: Tensor, noise: Noise, resize: float, rotation: float, each_step: bool):
    """The images transformed, or as they are with what transforms them at each step."""
    check_images(images)
    if each_step:
        return images, lambda given: drawn(given, noise, resize, rotation)
    return drawn(images, noise, resize, rotation)(images), None
