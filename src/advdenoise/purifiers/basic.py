"""Nothing, and the denoiser alone. Float [N,C,H,W] in [0,1] -> the same shape."""

from collections.abc import Callable

from torch import Tensor

from advdenoise.purifiers._checks import check_images, check_shape


def none(images: Tensor) -> Tensor:
    """The images as they are: the undefended classifier."""
    return images


def direct(images: Tensor, denoise: Callable[[Tensor], Tensor]) -> Tensor:
    """What the denoiser gives back, clamped to [0,1] (APuDAE, Table 3, row Direct).

    Raises BadInput for an empty batch, values that are not finite or lie outside [0,1], and a
    denoiser that gives back another shape.
    """
    check_images(images)
    denoised = denoise(images)
    check_shape(denoised, images)
    return denoised.clamp(0, 1)
