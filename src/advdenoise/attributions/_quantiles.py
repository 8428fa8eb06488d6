"""The interquartile range, by either reading of "segfault"."""

import numpy as np
import torch
from torch import Tensor

from advdenoise.errors import BadInput, suggest

RULES = ("linear", "inverted_cdf")


def iqr(phi: Tensor, rule: str = "linear") -> Tensor:
    """Interquartile range over the last axis: [..., K] -> [...]; 0 where K is 1.

    Args:
        rule: "linear" (numpy's interpolation, what the authors ran) or "inverted_cdf" (the order
            statistic ceil(K p), what the paper prints).

    Raises:
        BadInput: for another rule.
    """
    ordered = _sorted(phi)
    low, high = (_quantile(ordered, q, rule) for q in (1, 3))
    return high - low


def last_rank(count: int, rule: str) -> int:
    """The highest place among `count` ordered values that the upper quartile looks at."""
    return _ranks(count, 3, rule)[1]


def _ranks(count: int, quarters: int, rule: str) -> tuple[int, int, float]:
    """The two places that a quartile lies between, and the weight of the second."""
    if rule == "linear":
        below, rest = divmod((count - 1) * quarters, 4)
        return below, below + (rest > 0), rest / 4
    if rule == "inverted_cdf":
        # -(-a // b) is the quotient rounded up.
        place = -(-count * quarters // 4) - 1
        return place, place, 0.0
    raise BadInput(f"attributions: quantile is {rule!r}; {suggest(rule, RULES)}")


def _quantile(ordered: Tensor, quarters: int, rule: str) -> Tensor:
    below, above, weight = _ranks(ordered.shape[-1], quarters, rule)
    low, high = ordered[..., below], ordered[..., above]
    # From the nearer end, as numpy does, so that the result is the same to the last bit.
    if weight < 0.5:
        return low + (high - low) * weight
    return high - (high - low) * (1 - weight)


def _sorted(phi: Tensor) -> Tensor:
    if phi.device.type != "cpu":
        return phi.sort(dim=-1).values
    # numpy's sort along a contiguous axis is many times as fast as torch's, and as its partition.
    ordered = phi.clone(memory_format=torch.contiguous_format)
    np.asarray(ordered).sort(axis=-1)
    return ordered
