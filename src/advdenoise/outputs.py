"""Which numbers of a network are finite, and the class that its outputs stand for.

A comparison with NaN is false and `argmax` takes NaN for the largest value: without these a network
that diverges would be right about some images, and behind it no attack would ever succeed.
"""

import torch
from torch import Tensor

# What is predicted where outputs are not finite: never equal to a label.
NO_CLASS = -1


def finite_rows(values: Tensor) -> Tensor:
    """Whether all values of each row of [N, ...] are finite: bool [N]."""
    # A sum tells it in one pass over memory; float64 holds that of any finite float32 values.
    return values.sum(tuple(range(1, values.ndim)), dtype=torch.float64).isfinite()


def predicted(outputs: Tensor) -> Tensor:
    """The class with the largest output, the first of equal ones: int64 [N] or [N,H,W].

    `outputs` are [N,K] or [N,K,H,W]; `NO_CLASS` where one of the K is not finite.
    """
    return outputs.argmax(1).where(outputs.sum(1).isfinite(), NO_CLASS)


def label_rank(outputs: Tensor, labels: Tensor) -> Tensor:
    """The place of each label among the outputs [N,K], 0 for the largest: int64 [N].

    Of equal outputs the class of the lower number comes first, as in `predicted`, so that a network
    that gives the same for all classes is right by chance and no more often. The last place, K - 1,
    where an output is not finite.
    """
    own = outputs.gather(1, labels[:, None])
    earlier = torch.arange(outputs.shape[1], device=outputs.device) < labels[:, None]
    rank = ((outputs > own) | ((outputs == own) & earlier)).sum(1)
    return rank.where(outputs.sum(1).isfinite(), outputs.shape[1] - 1)
