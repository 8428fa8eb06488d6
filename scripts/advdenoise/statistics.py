"""95 % intervals over images, and the spread between replicates.

What is undefined (no images, one class only) is NaN, without a warning.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

_QUANTILES = (0.025, 0.975)
_NORMAL = 1.959963984540054  # the standard normal's 97.5 % quantile
_BLOCK = 1 << 21  # drawn counts held at once: 16 MB


class Estimate(NamedTuple):
    """A value, the bounds of its 95 % interval, and the number of images behind it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int) -> Estimate:
    """A share and Wilson's score interval (Wilson, 1927).

    `successes` need not be whole, for shares that are averaged for each image first.
    """
    n = int(n)
    if n == 0 or math.isnan(successes):
        return Estimate(math.nan, math.nan, math.nan, n)
    share = float(successes) / n
    z2 = _NORMAL**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    variance = max(share * (1 - share), 0.0) / n + z2 / (4 * n * n)
    half = _NORMAL / (1 + z2 / n) * math.sqrt(variance)
    # By the formula 0 <= low <= share <= high <= 1; rounding breaks it near 0 and 1.
    low = min(max(centre - half, 0.0), share)
    high = max(min(centre + half, 1.0), share)
    return Estimate(share, low, high, n)


def bootstrap_mean(
    values: np.ndarray, groups: np.ndarray | None = None, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The mean of `values` [N] and its percentile interval over resampled images.

    `groups` [N] says which image a value belongs to: an image's values are drawn together, and
    `n` counts images. By default every value is an image of its own.
    """
    values = np.asarray(values, dtype=np.float64)
    _, image = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    sizes = np.bincount(image)
    sums = np.bincount(image, values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [counts @ sums / (counts @ sizes) for counts in _draws(len(sizes), resamples, seed)]
        value = sums.sum() / np.float64(len(values))
    return _percentiles(value, means, len(sizes))


def bootstrap_difference(
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The mean of `first` - `second`, both [N] and in the same order of images (paired)."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return bootstrap_mean(difference, groups, resamples=resamples, seed=seed)


def bootstrap_auc(
    scores: np.ndarray,
    is_adversarial: np.ndarray,
    ids: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The area under the ROC curve and its percentile interval over resampled images.

    `scores` [N] are higher for what looks more adversarial, ties count half. Rows of one id (an
    image and its adversarial twin) are drawn together; resamples of one class only do not count.
    """
    scores = np.asarray(scores)
    distinct, image = np.unique(ids, return_inverse=True)
    images = len(distinct)
    if images == 0 or np.isnan(scores).any():
        return Estimate(math.nan, math.nan, math.nan, images)
    order = np.argsort(scores, kind="stable")
    positive, image = np.asarray(is_adversarial, dtype=bool)[order], image[order]
    scores = scores[order]
    ties = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    value = _weighted_auc(np.ones((1, len(scores))), positive, ties)[0]
    areas = [
        _weighted_auc(counts[:, image], positive, ties)
        for counts in _draws(images, resamples, seed, rows=len(scores))
    ]
    return _percentiles(value, areas, images)


def pooled(estimates: Sequence[Estimate]) -> tuple[Estimate, float]:
    """Replicates' estimates averaged (value, bounds and n), and the replicates' spread.

    The interval stays one over the images of a replicate; the spread is the values' standard
    deviation (n - 1), NaN for fewer than two.
    """
    if not estimates:
        return Estimate(math.nan, math.nan, math.nan, 0), math.nan
    value, low, high, n = np.mean(estimates, axis=0)
    values = [estimate.value for estimate in estimates]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Estimate(float(value), float(low), float(high), round(n)), spread


def _draws(images: int, resamples: int, seed: int, rows: int = 0) -> Iterator[np.ndarray]:
    """How often each image is drawn, [resamples, images] in blocks of bounded size."""
    if images == 0:
        return
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(images, rows))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        drawn = generator.integers(images, size=(count, images))
        drawn += images * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * images)
        yield counts.reshape(count, images).astype(np.float64)


def _weighted_auc(weights: np.ndarray, positive: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Areas [B] for weights [B, N] of rows in order of score; at `ties` a new score begins."""
    positives = np.add.reduceat(weights * positive, ties, axis=1)
    negatives = np.add.reduceat(weights * ~positive, ties, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (positives * below).sum(axis=1) / pairs


def _percentiles(value: float, blocks: list[np.ndarray], n: int) -> Estimate:
    found = np.concatenate(blocks) if blocks else np.empty(0)
    found = found[~np.isnan(found)]
    if not math.isfinite(value) or len(found) == 0:
        return Estimate(float(value), math.nan, math.nan, n)
    low, high = np.quantile(found, _QUANTILES)
    return Estimate(float(value), float(low), float(high), n)
