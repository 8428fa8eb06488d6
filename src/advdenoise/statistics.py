"""95 % intervals over images, and the spread between replicates.

Undefined results (no images, one class only, values that are not finite) are NaN without a warning.
Values that are not finite are never left out of a mean.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

_QUANTILES = (0.025, 0.975)
_NORMAL = 1.959963984540054  # the standard normal's 97.5 % quantile
_BLOCK = 1 << 21  # elements of the arrays of counts: 16 MB


class Estimate(NamedTuple):
    """A value, the bounds of its 95 % interval, and the number of images."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def exact(cls, value: float, n: int) -> "Estimate":
        """A number without uncertainty, whose interval is the number itself."""
        return cls(value, value, value, n)

    @classmethod
    def without_interval(cls, value: float, n: int = 1) -> "Estimate":
        """A number with an unknown interval (NaN)."""
        return cls(float(value), math.nan, math.nan, n)

    def scaled(self, factor: float, offset: float = 0.0) -> "Estimate":
        """Value and bounds times `factor`, minus `offset`."""
        value, low, high = (factor * bound - offset for bound in self[:3])
        return Estimate(value, low, high, self.n)


def ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`first` / `second`, infinite or NaN where `second` is 0, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return first / second


def wilson(successes: float, n: int) -> Estimate:
    """The fraction `successes` / `n` with Wilson's score interval (Wilson 1927).

    `successes` need not be whole: it may be a sum of fractions, one for each image. The estimate is
    NaN if it is not finite.
    """
    n = int(n)
    if n == 0 or not math.isfinite(successes):
        return Estimate(math.nan, math.nan, math.nan, n)
    share = float(successes) / n
    z2 = _NORMAL**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    variance = max(share * (1 - share), 0.0) / n + z2 / (4 * n * n)
    half = _NORMAL / (1 + z2 / n) * math.sqrt(variance)
    # In exact arithmetic 0 <= low <= share <= high <= 1; rounding violates it near 0 and 1.
    low = min(max(centre - half, 0.0), share)
    high = max(min(centre + half, 1.0), share)
    return Estimate(share, low, high, n)


def bootstrap_mean(
    values: np.ndarray, groups: np.ndarray | None = None, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The mean of `values` [N] and its percentile interval over resampled images.

    `groups` [N] are the images of the values: values of one image are drawn together, and `n` is
    the number of images. By default, each value is a separate image.
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


class Scored(NamedTuple):
    """Detectors' scores of rows; all arrays are [N].

    `scores` are higher for rows that look more adversarial. `ids` are the images of the rows: rows
    of one id (a clean image and its adversarial counterpart, in all runs) are drawn together.
    `runs` are the splits and replicates of the rows; by default there is one.
    """

    scores: np.ndarray
    is_adversarial: np.ndarray
    ids: np.ndarray
    runs: np.ndarray | None = None


def bootstrap_auc(
    scores: np.ndarray,
    is_adversarial: np.ndarray,
    ids: np.ndarray,
    runs: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The area under the ROC curve (ties count half) and its interval over resampled images.

    The arguments are those of `Scored`. The value is the mean of the runs' areas, and the interval
    that of the mean: images are drawn once for all runs. A run with rows of one class has no area
    and is left out of the mean; resamples in which no run has an area are left out of the interval.
    `n` is the number of images.
    """
    scored = _arrays(Scored(scores, is_adversarial, ids, runs))
    images = np.unique(scored.ids)
    pairs: list[_Pair] = [(run, None) for run in _ranked(scored, images)]
    return _bootstrap_areas(pairs, images, resamples, seed)


def bootstrap_auc_difference(
    first: Scored, second: Scored, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The area of `first` minus that of `second`, as a mean over the runs that both have.

    It is paired: images are drawn once for both, although their rows may be of different images.
    Otherwise it is as `bootstrap_auc`.
    """
    first, second = _arrays(first), _arrays(second)
    assert first.runs is not None and second.runs is not None
    common = np.intersect1d(first.runs, second.runs)
    first, second = (_of_runs(scored, common) for scored in (first, second))
    images = np.union1d(first.ids, second.ids)
    # There are no pairs if either has a score that is NaN.
    pairs: list[_Pair] = list(zip(_ranked(first, images), _ranked(second, images), strict=False))
    return _bootstrap_areas(pairs, images, resamples, seed)


def resampled_auc(
    several: Sequence[Scored], *, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Areas as in `bootstrap_auc` over all images, then over resampled ones; and `n`.

    The array is [len(several), 1 + resamples]. Images are drawn once for all of `several`, so that
    a function of several areas, such as a mean or a correlation, can be computed for each column;
    `interval_of` returns its interval.
    """
    arrays = [_arrays(scored) for scored in several]
    images = np.unique(np.concatenate([scored.ids for scored in arrays]))
    ranked = [_ranked(scored, images) for scored in arrays]
    longest = max((len(run.image) for runs in ranked for run in runs), default=0)
    blocks = [np.ones((1, len(images))), *_draws(len(images), resamples, seed, rows=longest)]
    areas = [
        [_mean([run.areas(counts) for run in runs], len(counts)) for runs in ranked]
        for counts in blocks
    ]
    return np.concatenate(areas, axis=1), len(images)


def resampled_means(
    values: np.ndarray, groups: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Means of each column of `values` [N, K] over all images, then over resampled ones; and `n`.

    The array is [K, 1 + resamples]. `groups` [N] are the images of the rows; rows of one image are
    drawn together.
    """
    _, image = np.unique(groups, return_inverse=True)
    sizes = np.bincount(image)
    sums = np.stack([np.bincount(image, column) for column in np.asarray(values, float).T], axis=1)
    blocks = [np.ones((1, len(sizes))), *_draws(len(sizes), resamples, seed)]
    means = [(counts @ sums) / (counts @ sizes)[:, None] for counts in blocks]
    return np.concatenate(means).T, len(sizes)


def resampled_sums(
    values: np.ndarray, groups: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Sums of each column of `values` [N, K] over all images, then over resampled ones; and `n`.

    The array is [1 + resamples, K]. `groups` [N] are the images of the rows; rows of one image are
    drawn together. Two calls with the same images draw them alike, so that their sums are paired.
    """
    images, image = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(images), np.shape(values)[1]))
    np.add.at(sums, image, values)
    blocks = [np.ones((1, len(images))), *_draws(len(images), resamples, seed)]
    return np.concatenate([counts @ sums for counts in blocks]), len(images)


def interval_of(values: np.ndarray, n: int) -> Estimate:
    """The estimate for `values` [1 + resamples], the value and those of resamples."""
    return _percentiles(values[0], [np.asarray(values[1:], dtype=np.float64)], n)


class _Ranked(NamedTuple):
    """Rows of one run in order of score.

    `image` is the index of each row's image, `positive` whether it is adversarial; `ties` are the
    rows at which a new score begins.
    """

    image: np.ndarray
    positive: np.ndarray
    ties: np.ndarray

    def areas(self, counts: np.ndarray) -> np.ndarray:
        """Areas [B] of resamples that draw the images `counts` [B, images] times."""
        return _weighted_auc(counts[:, self.image], self.positive, self.ties)


_Pair = tuple[_Ranked, _Ranked | None]


def _arrays(scored: Scored) -> Scored:
    runs = np.zeros(len(scored.ids)) if scored.runs is None else np.asarray(scored.runs)
    positive = np.asarray(scored.is_adversarial, dtype=bool)
    return Scored(np.asarray(scored.scores), positive, np.asarray(scored.ids), runs)


def _of_runs(scored: Scored, runs: np.ndarray) -> Scored:
    """The rows of these runs."""
    assert scored.runs is not None
    rows = np.isin(scored.runs, runs)
    return Scored(
        scored.scores[rows], scored.is_adversarial[rows], scored.ids[rows], scored.runs[rows]
    )


def _ranked(scored: Scored, images: np.ndarray) -> list[_Ranked]:
    """The rows of each run; none if a score is NaN, which has no order. `images` are sorted."""
    if np.isnan(scored.scores).any():
        return []
    assert scored.runs is not None
    runs = []
    for run in np.unique(scored.runs):
        rows = np.flatnonzero(scored.runs == run)
        rows = rows[np.argsort(scored.scores[rows], kind="stable")]
        scores = scored.scores[rows]
        ties = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
        image = np.searchsorted(images, scored.ids[rows])
        runs.append(_Ranked(image, scored.is_adversarial[rows], ties))
    return runs


def _bootstrap_areas(
    pairs: "list[_Pair]", images: np.ndarray, resamples: int, seed: int
) -> Estimate:
    """The mean over runs of areas, or of differences of areas, and its interval."""
    if not pairs:
        return Estimate(math.nan, math.nan, math.nan, len(images))

    def means(counts: np.ndarray) -> np.ndarray:
        areas = [a.areas(counts) - (b.areas(counts) if b else 0.0) for a, b in pairs]
        return _mean(areas, len(counts))

    longest = max(len(run.image) for pair in pairs for run in pair if run)
    blocks = _draws(len(images), resamples, seed, rows=longest)
    value = means(np.ones((1, len(images))))[0]
    return _percentiles(value, [means(counts) for counts in blocks], len(images))


def _mean(areas: list[np.ndarray], resamples: int) -> np.ndarray:
    """The mean over runs [resamples]; runs without an area are left out."""
    if not areas:
        return np.full(resamples, np.nan)
    defined = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        return np.where(defined, areas, 0.0).sum(axis=0) / defined.sum(axis=0)


def pooled(estimates: Sequence[Estimate]) -> tuple[Estimate, float]:
    """The mean of replicates' estimates (value, bounds and n), and the replicates' spread.

    The interval is still one over the images of a replicate. The spread is the standard deviation
    (n - 1) of the values, NaN for fewer than two.
    """
    if not estimates:
        return Estimate(math.nan, math.nan, math.nan, 0), math.nan
    value, low, high, n = np.mean(estimates, axis=0)
    values = [estimate.value for estimate in estimates]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Estimate(float(value), float(low), float(high), round(n)), spread


def _draws(images: int, resamples: int, seed: int, rows: int = 0) -> Iterator[np.ndarray]:
    """How often each image is drawn: [resamples, images] in blocks of bounded size."""
    if images == 0:
        return
    block = max(1, _BLOCK // max(images, rows))
    if block >= resamples:
        yield _cached_counts(images, resamples, seed)
        return
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        yield _counts(generator, min(block, resamples - start), images)


@functools.lru_cache(maxsize=2)
def _cached_counts(images: int, resamples: int, seed: int) -> np.ndarray:
    """All draws in one block; a table needs the same ones hundreds of times."""
    counts = _counts(np.random.default_rng(seed), resamples, images)
    counts.flags.writeable = False
    return counts


def _counts(generator: np.random.Generator, resamples: int, images: int) -> np.ndarray:
    """How often each image is drawn with replacement, float64 [resamples, images]."""
    drawn = generator.integers(images, size=(resamples, images))
    drawn += images * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * images)
    return counts.reshape(resamples, images).astype(np.float64)


def _weighted_auc(weights: np.ndarray, positive: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Areas [B] for weights [B, N] of rows in order of score; at `ties` a new score begins."""
    positives = np.add.reduceat(weights * positive, ties, axis=1)
    negatives = np.add.reduceat(weights * ~positive, ties, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (positives * below).sum(axis=1) / pairs


def _percentiles(value: float, blocks: list[np.ndarray], n: int) -> Estimate:
    """The estimate of `value` from its values in resamples, of which NaN is left out."""
    resampled = np.concatenate(blocks) if blocks else np.empty(0)
    resampled = resampled[~np.isnan(resampled)]
    if not math.isfinite(value) or len(resampled) == 0:
        return Estimate(float(value), math.nan, math.nan, n)
    low, high = np.quantile(resampled, _QUANTILES)
    return Estimate(float(value), float(low), float(high), n)
