"""The allowed perturbations: inside the ball, with the adversarial image inside [0,1]."""

import torch
from torch import Tensor


def limits(images: Tensor, epsilon: float | Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and largest allowed perturbation of each element, shaped like `images`.

    A perturbation between them satisfies |perturbation| <= epsilon exactly, and the rounded sum
    images + perturbation is exactly inside [0,1]: -x is exact, and if 1 - x is rounded up, then by
    less than half the distance between 1 and the next larger number.

    Args:
        images: [N, ...] in [0,1].
        epsilon: radius of the L-infinity ball in pixel units, a number or [N,1,1,1].
    """
    epsilon = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device)
    return torch.maximum(-images, -epsilon), torch.minimum(1 - images, epsilon)
