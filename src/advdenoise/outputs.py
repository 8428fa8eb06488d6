"""Predicted classes of a network's outputs, which may not be finite.

Comparisons with NaN are false and `argmax` takes NaN for the largest value. Without these functions
a network that diverges would classify some images correctly, or attacks on it would not succeed.
"""

import torch
from torch import Tensor

# The prediction for outputs that are not finite, which is never equal to a label
NO_CLASS = -1


def finite_rows(values: Tensor) -> Tensor:
    """Whether all values of each row of [N, ...] are finite: bool [N]."""
    # A sum needs one pass over memory; in float64 that of finite float32 values does not overflow.
    return values.sum(tuple(range(1, values.ndim)), dtype=torch.float64).isfinite()


def predicted(outputs: Tensor) -> Tensor:
    """The class with the largest output, the first among equals: int64 [N] or [N,H,W].

    `outputs` are [N,K] or [N,K,H,W]; the result is `NO_CLASS` where one of the K is not finite.
    """
    return outputs.argmax(1).where(outputs.sum(1).isfinite(), NO_CLASS)


def label_rank(outputs: Tensor, labels: Tensor) -> Tensor:
    """The rank of each label [N] by its output in [N,K], 0 for the largest: int64 [N].

    Among equal outputs the lower class comes first, as in `predicted`, so that a network with equal
    outputs for all classes is correct only by chance. The rank is K - 1, the last, where an output
    is not finite.
    """
    label_output = outputs.gather(1, labels[:, None])
    earlier = torch.arange(outputs.shape[1], device=outputs.device) < labels[:, None]
    rank = ((outputs > label_output) | ((outputs == label_output) & earlier)).sum(1)
    return rank.where(outputs.sum(1).isfinite(), outputs.shape[1] - 1)
