"""No purifier, and the denoiser alone: float [N,C,H,W] in [0,1] -> the same shape."""

from collections.abc import Callable

from torch import Tensor

from advdenoise.purifiers._checks import check_images, check_shape


def none(images: Tensor) -> Tensor:
    """The images unchanged: the undefended classifier."""
    return images


def direct(images: Tensor, denoise: Callable[[Tensor], Tensor]) -> Tensor:
    """The output of the denoiser, clamped to [0,1] (Kalaria et al. 2022, Table 3, row Direct).

    Raises:
        BadInput: an empty batch, values that are not finite or outside [0,1], a denoiser that
            changes the shape.
    """
    check_images(images)
    denoised = denoise(images)
    check_shape(denoised, images)
    return denoised.clamp(0, 1)
