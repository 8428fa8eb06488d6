"""Whether what is judged gives one result for one image: random numbers that no `noise` explains.

A purifier or a network that draws for itself would be judged by one draw, other in each run, and no
attack would take a mean over its draws.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.stages.data import Batch

# Images that are passed twice.
FEW = 4
# Mean difference of an image's values, over their mean size and 1: what rounding may do. Sums of a
# GPU have no fixed order, and images pass other kernels in another batch.
_SAME_BATCH = {"cpu": 1e-6, "cuda": 1e-4}
_OTHER_BATCH = 1e-2


@torch.no_grad()
def check_network(key: str, network: nn.Module, images: Tensor) -> None:
    """Refuse, with BadInput, a network that gives an image [N,C,H,W] two outputs.

    Dropout that stays on tells in a second pass, batch norm by the batch in one of fewer images.
    """
    first, second = network(images), network(images)
    if _differ(first, second, _SAME_BATCH[images.device.type]):
        raise BadInput(
            f"{key}: the network gives two outputs for one image; it must draw nothing in eval "
            "mode, so give `functional.dropout` and its like `training=self.training`"
        )
    some = (len(images) + 1) // 2
    if _differ(first[:some], network(images[:some]), _OTHER_BATCH):
        raise BadInput(
            f"{key}: the network gives two outputs for one image, by the images beside it; it must "
            "normalise by running statistics in eval mode and not by those of a batch"
        )


@torch.no_grad()  # and not in inference mode: a purifier may take gradients of its own
def check_purifier(
    key: str, purify: Callable[[Tensor, Noise], Tensor], batch: Batch, seed: int
) -> None:
    """Refuse, with BadInput, a purifier that gives two results for one image and one noise.

    Also one that gives images of another shape than it takes.
    """
    first, second = (purify(batch.images, Noise(seed, batch.ids, key)) for _ in range(2))
    if first.shape != batch.images.shape:
        took, gave = ("x".join(map(str, shown.shape)) for shown in (batch.images, first))
        raise BadInput(f"{key}: turns images of {took} into {gave}; it must keep their shape")
    if _differ(first, second, _SAME_BATCH[first.device.type]):
        raise BadInput(
            f"{key}: the purifier gives two results for one image and one noise; take `noise` as "
            "a parameter and draw from it alone"
        )


def _differ(first: Tensor, second: Tensor, tolerance: float) -> bool:
    """Whether the rows of two results [N, ...] differ by more than rounding; NaN equals NaN."""
    same = (first == second) | (first.isnan() & second.isnan())
    gap = (first - second).abs().where(~same, 0).nan_to_num(nan=torch.inf)
    size = 1 + first.abs().nan_to_num(0, 0, 0).flatten(1).mean(1)
    return bool((gap.flatten(1).mean(1) > tolerance * size).any())
