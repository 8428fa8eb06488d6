"""What every purifier refuses, in one sentence each."""

import math

from torch import Tensor

from advdenoise.errors import BadInput

# How far rounding may take an image beyond [0,1].
_ROUNDING = 1e-4


def check_images(images: Tensor) -> None:
    """Raises BadInput for an empty batch, values that are not finite or lie outside [0,1]."""
    if not len(images):
        raise BadInput("there is nothing to purify: the batch is empty; hand over an image or more")
    low, high = (value.item() for value in images.detach().aminmax())
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise BadInput(
            "an image to purify holds values that are not finite; see what made the image"
        )
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise BadInput(
            f"an image to purify holds values from {low:.4g} to {high:.4g}; purifiers take images "
            "in [0,1], so undo any other scaling first"
        )


def check_shape(denoised: Tensor, images: Tensor) -> None:
    """Raises BadInput where a denoiser gave back another shape than it took."""
    if denoised.shape != images.shape:
        took, gave = ("x".join(map(str, given.shape[1:])) for given in (images, denoised))
        raise BadInput(
            f"the denoiser turns images of {took} into {gave}; it must be one for {took}"
        )


def mean_and_deviation(calibration: dict | None, function: str) -> tuple[float, float]:
    """mu and sigma of the reconstruction error on held-out clean images.

    Raises BadInput where there is no calibration, or one of equal errors.
    """
    if calibration is None:
        raise BadInput(
            f"{function} needs the calibration of its denoiser, mean and deviation of the "
            "reconstruction error; hand over what the calibrate stage wrote"
        )
    mean, deviation = calibration["mean"], calibration["deviation"]
    if not (math.isfinite(mean) and 0 < deviation < math.inf):
        raise BadInput(
            f"{function}: the calibration has the mean {mean} and the deviation {deviation}; "
            "calibrate on two or more images that are not alike"
        )
    return mean, deviation
