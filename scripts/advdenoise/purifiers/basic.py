"""Nothing, and the denoiser alone. Float [N,C,H,W] in [0,1] -> the same shape."""

from collections.abc import Callable

from torch import Tensor


def none(images: Tensor) -> Tensor:
    """The images as they are: the undefended classifier."""
    return images


def direct(images: Tensor, denoise: Callable[[Tensor], Tensor]) -> Tensor:
    """What the denoiser gives back, clamped to [0,1] (APuDAE, Table 3, row Direct)."""
    return denoise(images).clamp(0, 1)
