"""One-sided tests on images: counts against a rate, one attack against another, many at once.

Probabilities of what is undefined (no images) are 1: nothing speaks against the null hypothesis.
"""

import math
from collections.abc import Sequence

import numpy as np

FLIPS = 10_000
_BLOCK = 1 << 21  # random numbers held at once: 16 MB
# Quantiles of the standard normal distribution for a two-sided test at 5 % and a power of 80 %.
_LEVEL, _POWER = 1.96, 0.84


def binomial_tail(count: float, n: int, rate: float) -> float:
    """P(X >= count) for X ~ Bin(n, rate), with 0 < rate < 1.

    With `count` of `n` images against an expectation it is the p-value of "at most a share `rate`
    of all images is".
    """
    first = max(math.ceil(count), 0)
    if first > n:
        return 0.0
    if first == 0:
        return 1.0
    k = np.arange(first, n + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    log_choose = log_factorials[n] - log_factorials[k] - log_factorials[n - k]
    logs = log_choose + k * math.log(rate) + (n - k) * math.log1p(-rate)
    return min(float(np.exp(logs).sum()), 1.0)


def mcnemar(against: int, expected: int) -> float:
    """One-sided exact p-value of McNemar's test, P(Bin(b + c, 1/2) >= b) (McNemar 1947).

    Of the images on which two conditions differ, b are `against` the expected order and c
    `expected`.
    """
    return binomial_tail(against, against + expected, 0.5)


def sign_flip(differences: np.ndarray, *, flips: int = FLIPS, seed: int = 0) -> float:
    """One-sided p-value of a mean above 0, of values [N] that are symmetric about 0 by chance.

    Signs are flipped at random `flips` times (Fisher 1935); the observed signs count as one of
    them. Values of -1, 0 and 1 have McNemar's exact p-value.
    """
    differences = np.round(np.asarray(differences, dtype=np.float64), 9)
    sizes, place, counts = np.unique(
        np.abs(differences[differences != 0]), return_inverse=True, return_counts=True
    )
    positive = np.bincount(place, differences[differences != 0] > 0, minlength=len(sizes))
    if len(sizes) <= 1:
        against = int(positive.sum())
        return mcnemar(against, int(counts.sum()) - against)
    observed = sizes @ (2 * positive - counts)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(sizes))
    above = 0
    for start in range(0, flips, block):
        # Of equal sizes only the number of positive ones matters.
        size = (min(block, flips - start), len(sizes))
        sums = (2 * generator.binomial(counts, 0.5, size=size) - counts) @ sizes
        above += int((sums >= observed - 1e-9).sum())
    return (1 + above) / (1 + flips)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted by Holm's method (Holm 1979), in the same order."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = largest
    return adjusted


def fisher(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """One-sided p-value of Fisher's exact test: that `hits` of `n` is above `other_hits` of others.

    It is the probability of at least as many of the hits among the first, given their sum.
    """
    total, drawn = n + other_n, hits + other_hits
    ways = sum(
        math.comb(n, k) * math.comb(other_n, drawn - k)
        for k in range(hits, min(n, drawn) + 1)
        if 0 <= drawn - k <= other_n
    )
    return ways / math.comb(total, drawn)


def images_for_power(discordance: float, difference: float) -> int:
    """How many images a McNemar test at 5 % needs for a power of 80 % (Connor 1987).

    `discordance` is the share of images on which two conditions differ and `difference` that of
    their accuracies, in (0, discordance].
    """
    spread = _LEVEL * math.sqrt(discordance)
    spread += _POWER * math.sqrt(max(discordance - difference**2, 0.0))
    return math.ceil((spread / difference) ** 2)
