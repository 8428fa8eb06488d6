"""Purifiers outside of the library, for configurations of tests: `tests.own_purifiers:descent`."""

from advdenoise.purifiers._checks import mean_and_deviation
from advdenoise.purifiers._descent import Adam, Gradient, descend
from advdenoise.ranges import PositiveFloat, PositiveInt, StepSize


def descent(images, error, *, steps: PositiveInt = 2, rate: PositiveFloat = 0.01):
    """Gradient descent on the reconstruction error."""
    return descend(images, error, steps, Gradient(rate))


def calibrated_descent(
    images, error, calibration, *, steps: PositiveInt = 2, rate: StepSize = 1 / 255
):
    """Adam on the squared difference of the error and the mean error of clean images."""
    mean, _ = mean_and_deviation(calibration, "calibrated_descent")
    return descend(images, error, steps, Adam(rate), loss=lambda errors: (errors - mean).square())


def noisy_descent(
    images,
    error,
    noise,
    *,
    steps: PositiveInt = 2,
    rate: StepSize = 1 / 255,
    amount: StepSize = 0.1,
):
    """Gradient descent with noise of `amount` added at each step."""

    def draw(images):
        random = noise.uniform(images, -amount, amount).to(images.dtype)
        return lambda images, errors: images + random

    return descend(images, error, steps, Gradient(rate), add_noise=draw)
