"""Which perturbations are allowed: those inside the ball that keep the image inside [0,1]."""

import torch
from torch import Tensor


def limits(images: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest allowed perturbation of every element, shaped like `images`.

    A perturbation between them has |perturbation| <= epsilon exactly, and the rounded sum
    images + perturbation lies inside [0,1] exactly: -x is exact, and 1 - x, where it was rounded
    up, is so by less than half the distance between 1 and the next larger number.

    Args:
        images: [N, ...] in [0,1].
        epsilon: budget in pixel units, one number or [N, 1, 1, 1], one for each image.
    """
    epsilon = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device)
    return torch.maximum(-images, -epsilon), torch.minimum(1 - images, epsilon)
