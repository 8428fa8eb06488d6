"""The interquartile range, in both definitions of Al Bared and Nassar 2021."""

import numpy as np
import torch
from torch import Tensor

from advdenoise.errors import BadInput, suggest

RULES = ("linear", "inverted_cdf")


def iqr(phi: Tensor, rule: str = "linear") -> Tensor:
    """The interquartile range over the last axis: [..., K] -> [...]; 0 if K is 1.

    Args:
        rule: "linear" (numpy's interpolation, as in the authors' program) or "inverted_cdf" (the
            order statistic ceil(K p), as in the paper).

    Raises:
        BadInput: an unknown rule.
    """
    ordered = _sorted(phi)
    low, high = (_quantile(ordered, q, rule) for q in (1, 3))
    return high - low


def last_rank(count: int, rule: str) -> int:
    """The highest index into `count` sorted values that the upper quartile depends on."""
    return _ranks(count, 3, rule)[1]


def _ranks(count: int, quarters: int, rule: str) -> tuple[int, int, float]:
    """The two indices between which a quartile lies, and the weight of the second."""
    if rule == "linear":
        lower, remainder = divmod((count - 1) * quarters, 4)
        return lower, lower + (remainder > 0), remainder / 4
    if rule == "inverted_cdf":
        # -(-a // b) is the quotient rounded up.
        index = -(-count * quarters // 4) - 1
        return index, index, 0.0
    raise BadInput(f"attributions: quantile is {rule!r}; {suggest(rule, RULES)}")


def _quantile(ordered: Tensor, quarters: int, rule: str) -> Tensor:
    lower, upper, weight = _ranks(ordered.shape[-1], quarters, rule)
    low, high = ordered[..., lower], ordered[..., upper]
    # From the nearer end, as in numpy, so that results are bit-equal.
    if weight < 0.5:
        return low + (high - low) * weight
    return high - (high - low) * (1 - weight)


def _sorted(phi: Tensor) -> Tensor:
    if phi.device.type != "cpu":
        return phi.sort(dim=-1).values
    # numpy's sort of a contiguous axis is many times faster than torch's, and than partitioning.
    ordered = phi.clone(memory_format=torch.contiguous_format)
    np.asarray(ordered).sort(axis=-1)
    return ordered
