"""Checks that the purifiers share."""

import math

from torch import Tensor

from advdenoise.errors import BadInput

# How far rounding may take a pixel outside [0,1].
_ROUNDING = 1e-4


def check_images(images: Tensor) -> None:
    """Raise BadInput for an empty batch and for values that are not finite or outside [0,1]."""
    if not len(images):
        raise BadInput("images to purify: the batch is empty; pass at least one image")
    low, high = (value.item() for value in images.detach().aminmax())
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise BadInput("images to purify: values are not finite; check what produced the images")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise BadInput(
            f"images to purify: values must be in [0,1], got {low:.4g} to {high:.4g}; undo any "
            "other scaling first"
        )


def check_shape(denoised: Tensor, images: Tensor) -> None:
    """Raise BadInput unless the denoiser returned images of the shape of its input."""
    if denoised.shape != images.shape:
        expected, actual = ("x".join(map(str, batch.shape[1:])) for batch in (images, denoised))
        raise BadInput(
            f"the denoiser turns images of {expected} into {actual}; it must keep their shape"
        )


def mean_and_deviation(calibration: dict | None, function: str) -> tuple[float, float]:
    """The mean mu and standard deviation sigma of the reconstruction error on clean images.

    Raises:
        BadInput: no calibration, or one whose deviation is 0 or not finite.
    """
    if calibration is None:
        raise BadInput(
            f"{function} needs the calibration of its denoiser, mean and deviation of the "
            "reconstruction error; pass what the calibrate stage wrote"
        )
    mean, deviation = calibration["mean"], calibration["deviation"]
    if not (math.isfinite(mean) and 0 < deviation < math.inf):
        raise BadInput(
            f"{function}: the calibration has mean {mean} and deviation {deviation}; calibrate on "
            "at least two different images"
        )
    return mean, deviation
