"""Intervals against statsmodels, scipy, brute force and their nominal coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from advdenoise.metrics import miou
from advdenoise.statistics import (
    Estimate,
    Scored,
    _draws,
    _weighted_auc,
    bootstrap_auc,
    bootstrap_auc_difference,
    bootstrap_difference,
    bootstrap_mean,
    interval_of,
    pooled,
    resampled_auc,
    resampled_means,
    resampled_sums,
    wilson,
)


@given(st.data(), st.integers(1, 10_000))
def test_wilson_against_statsmodels(data, n):
    from statsmodels.stats.proportion import proportion_confint

    successes = data.draw(st.integers(0, n) | st.floats(0, n))
    estimate = wilson(successes, n)
    low, high = proportion_confint(successes, n, method="wilson")
    assert estimate.value == successes / n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-9)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_mean_against_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).lognormal(size=400)
    estimate = bootstrap_mean(values, resamples=4000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.n == 400
    width = expected.high - expected.low
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=0.1 * width)


def test_rows_of_one_image_are_drawn_together():
    values = np.random.default_rng(2).normal(size=100)
    ids = np.arange(100)
    single = bootstrap_mean(values, ids)
    repeated = bootstrap_mean(np.tile(values, 10), np.tile(ids, 10))
    assert repeated == pytest.approx(single)
    ungrouped = bootstrap_mean(np.tile(values, 10))
    assert ungrouped.high - ungrouped.low < 0.5 * (repeated.high - repeated.low)
    assert bootstrap_mean(values, [f"image {i}" for i in ids]).n == 100


def test_images_with_more_rows_have_more_weight():
    estimate = bootstrap_mean([1.0, 1.0, 1.0, 0.0], [5, 5, 5, 9])
    assert estimate == (0.75, 0.0, 1.0, 2)


def test_difference_is_paired():
    generator = np.random.default_rng(3)
    images = generator.normal(size=500) * 10
    first, second = images + 1 + generator.normal(size=500) * 0.1, images
    estimate = bootstrap_difference(first, second)
    assert estimate.value == pytest.approx(1, abs=0.02)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low < 0.05


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30
    )
)
def test_weighted_auc_equals_that_of_repeated_rows(rows):
    scores, positive, ids = (np.array(x) for x in zip(*sorted(rows), strict=True))
    _, image = np.unique(ids, return_inverse=True)
    ties = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    for counts in _draws(image.max() + 1, 20, seed=0):
        areas = _weighted_auc(counts[:, image], positive, ties)
        for count, area in zip(counts, areas, strict=True):
            repeated = np.repeat(np.arange(len(rows)), count[image].astype(int))
            if len(set(positive[repeated])) < 2:
                assert math.isnan(area)
            else:
                expected = roc_auc_score(positive[repeated], scores[repeated])
                assert area == pytest.approx(expected, abs=1e-12)


def test_auc_depends_on_the_seed_and_not_on_the_order_of_rows():
    generator = np.random.default_rng(4)
    positive = np.arange(300) < 150
    scores = np.round(generator.normal(size=300) + positive, 1)
    ids = np.arange(300) % 150
    estimate = bootstrap_auc(scores, positive, ids)
    assert estimate.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.n == 150
    shuffled = generator.permutation(300)
    again = bootstrap_auc(scores[shuffled], positive[shuffled], ids[shuffled])
    assert again == pytest.approx(estimate)
    assert bootstrap_auc(scores, positive, ids, seed=1)[1:3] != estimate[1:3]


def random_scores(rng, images: int, runs: int, share: float, coarse: float = 0.1) -> Scored:
    """Rows of `runs` test sides, each a random choice of clean and adversarial images."""
    parts = []
    for run in range(runs):
        rows = np.flatnonzero(rng.random(2 * images) < share)
        is_adversarial = rows >= images
        scores = np.round((rng.normal(size=len(rows)) + is_adversarial) / coarse) * coarse
        parts.append((scores, is_adversarial, 1000 + 7 * (rows % images), np.full(len(rows), run)))
    order = rng.permutation(sum(len(part[0]) for part in parts))
    return Scored(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def area_of_drawn(scored: Scored, drawn: np.ndarray, run: int) -> float:
    """The run's area by scikit-learn, with the images repeated as often as they are drawn."""
    rows = np.concatenate(
        [np.flatnonzero((scored.ids == image) & (scored.runs == run)) for image in drawn]
    )
    if len(set(scored.is_adversarial[rows])) < 2:
        return math.nan
    return roc_auc_score(scored.is_adversarial[rows], scored.scores[rows])


def brute_force(images: np.ndarray, measure, resamples: int) -> list[float]:
    """The value and the 95 % interval of `measure` (images -> values of all runs)."""
    by_resample = [
        np.array(measure(np.repeat(images, count)))
        for counts in _draws(len(images), resamples, seed=0)
        for count in counts.astype(int)
    ]
    means = [np.nanmean(values) for values in by_resample if not np.isnan(values).all()]
    return [np.nanmean(measure(images)), *np.quantile(means, [0.025, 0.975])]


@pytest.mark.parametrize(("images", "share"), [(40, 0.5), (5, 0.4)])
def test_area_of_several_runs_against_brute_force(images, share):
    """With few images, some runs have one class in some resamples, and no area."""
    scored = random_scores(np.random.default_rng(images), images, 3, share)
    ids = np.unique(scored.ids)

    def areas(drawn):
        return [area_of_drawn(scored, drawn, run) for run in range(3)]

    expected = brute_force(ids, areas, 60)
    estimate = bootstrap_auc(*scored, resamples=60)
    assert estimate[:3] == pytest.approx(expected, abs=1e-12)
    assert estimate.n == len(ids)


@pytest.mark.parametrize(("images", "shares"), [(40, (0.2, 0.6)), (6, (0.5, 0.5))])
def test_difference_of_areas_against_brute_force(images, shares):
    rng = np.random.default_rng(images)
    first, second = (random_scores(rng, images, 3, share) for share in shares)
    keep = first.runs != 1  # a run that one of them does not have is left out of both
    first = Scored(*(column[keep] for column in first))
    ids = np.union1d(first.ids, second.ids[second.runs != 1])

    def differences(drawn):
        return [area_of_drawn(first, drawn, r) - area_of_drawn(second, drawn, r) for r in (0, 2)]

    estimate = bootstrap_auc_difference(first, second, resamples=60)
    assert estimate[:3] == pytest.approx(brute_force(ids, differences, 60), abs=1e-12)
    assert estimate.n == len(ids)


def test_difference_of_areas_is_paired_and_signed():
    """The interval of a difference is narrow if both detectors err on the same images."""
    scored = random_scores(np.random.default_rng(8), 200, 2, 0.5)
    better = scored._replace(scores=scored.scores + 0.05 * scored.is_adversarial)
    estimate = bootstrap_auc_difference(better, scored)
    single = bootstrap_auc(*scored)
    assert estimate.value == pytest.approx(bootstrap_auc(*better).value - single.value)
    assert 0 < estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low < 0.3 * (single.high - single.low)
    same = bootstrap_auc_difference(scored, scored)
    assert same[:3] == (0, 0, 0)


def test_areas_do_not_depend_on_the_block_size(monkeypatch):
    first, second = (random_scores(np.random.default_rng(seed), 30, 2, 0.5) for seed in (0, 1))
    expected = bootstrap_auc_difference(first, second, resamples=50)
    monkeypatch.setattr("advdenoise.statistics._BLOCK", 100)
    assert bootstrap_auc_difference(first, second, resamples=50) == pytest.approx(expected)


def test_more_runs_narrow_the_interval_if_they_add_images():
    """The interval is that of the mean over runs, not of one run."""
    scored = random_scores(np.random.default_rng(9), 400, 5, 0.2)
    one = Scored(*(column[scored.runs == 0] for column in scored))
    mean, single = bootstrap_auc(*scored), bootstrap_auc(*one)
    assert mean.high - mean.low < 0.8 * (single.high - single.low)
    again = Scored(*(np.tile(column, 5) for column in one[:3]), np.repeat(range(5), len(one.ids)))
    assert bootstrap_auc(*again) == pytest.approx(single)


def test_draws_are_multinomial():
    counts = np.concatenate(list(_draws(30, 2000, seed=0)))
    assert counts.shape == (2000, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(30), abs=0.12)
    assert counts.var() == pytest.approx(1 - 1 / 30, rel=0.05)


def test_draws_come_in_blocks_of_bounded_size():
    blocks = list(_draws(1000, 9, seed=0, rows=1 << 20))
    assert [len(block) for block in blocks] == [2, 2, 2, 2, 1]


def test_intervals_cover_the_truth():
    generator = np.random.default_rng(5)
    hits = {"mean": 0, "auc": 0}
    for _ in range(200):
        positive = np.arange(200) < 100
        scores = generator.normal(size=200) + positive
        mean = bootstrap_mean(scores[positive], resamples=300)
        area = bootstrap_auc(scores, positive, np.arange(200), resamples=300)
        hits["mean"] += mean.low <= 1 <= mean.high
        hits["auc"] += area.low <= 0.7602499 <= area.high  # Phi(1 / sqrt 2)
    assert 0.9 <= hits["mean"] / 200 <= 0.99
    assert 0.9 <= hits["auc"] / 200 <= 0.99


def test_pooled_replicates():
    replicates = [Estimate(0.5, 0.4, 0.6, 100), Estimate(0.7, 0.6, 0.8, 100)]
    mean, spread = pooled(replicates)
    assert mean == pytest.approx((0.6, 0.5, 0.7, 100))
    assert spread == pytest.approx(math.sqrt(0.02))
    mean, spread = pooled(replicates[:1])
    assert mean == replicates[0] and math.isnan(spread)


@pytest.mark.filterwarnings("error")
def test_undefined_is_nan():
    undefined = [
        wilson(0, 0),
        wilson(math.nan, 0),
        bootstrap_mean([]),
        bootstrap_mean([1.0, math.nan]),
        bootstrap_difference([], []),
        bootstrap_auc([], [], []),
        bootstrap_auc([1.0, 2.0], [True, True], [0, 1]),
        bootstrap_auc([1.0, math.nan], [True, False], [0, 1]),
        bootstrap_auc_difference(Scored([], [], []), Scored([], [], [])),
        bootstrap_auc_difference(  # no run in common
            Scored([1.0, 2.0], [True, False], [0, 1], [0, 0]),
            Scored([1.0, 2.0], [True, False], [0, 1], [1, 1]),
        ),
        bootstrap_auc_difference(
            Scored([1.0, 2.0], [True, False], [0, 1]),
            Scored([1.0, math.nan], [True, False], [0, 1]),
        ),
        pooled([])[0],
    ]
    for estimate in undefined:
        assert all(math.isnan(x) for x in estimate[:3])
    assert [estimate.n for estimate in undefined] == [0, 0, 0, 2, 0, 0, 2, 2, 0, 0, 2, 0]
    assert bootstrap_mean([1.0, math.inf])[0] == math.inf


def test_several_areas_are_computed_on_the_same_resamples():
    random = np.random.default_rng(0)
    ids = np.tile(np.arange(40), 2)
    positive = np.repeat([False, True], 40)
    scores = random.random(80) + 0.5 * positive
    runs = np.repeat([0, 1], 40)[random.permutation(80)]
    scored = [
        Scored(scores, positive, ids, runs),
        Scored(-scores, positive, ids, runs),
        Scored(scores[::2], positive[::2], ids[::2]),
    ]
    areas, n = resampled_auc(scored, resamples=200, seed=3)
    assert areas.shape == (3, 201) and n == 40
    for row, rows in zip(areas, scored, strict=True):
        single = bootstrap_auc(*rows, resamples=200, seed=3)
        assert row[0] == pytest.approx(single.value)
    # Areas of opposite scores add up to 1 in every resample, and their difference is paired.
    assert np.allclose(areas[0] + areas[1], 1)
    difference = interval_of(areas[0] - areas[1], n)
    paired = bootstrap_auc_difference(*scored[:2], resamples=200, seed=3)
    assert difference == pytest.approx(paired)


def test_scores_that_are_nan_have_no_area():
    scored = Scored([np.nan, 1.0], [False, True], [0, 1])
    areas, _ = resampled_auc([scored], resamples=5)
    assert np.isnan(areas).all()
    assert math.isnan(interval_of(areas[0], 2).value)


def test_means_of_columns_are_computed_on_the_same_resamples():
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 3)
    values = random.random((60, 2))
    means, n = resampled_means(values, groups, resamples=300, seed=5)
    assert means.shape == (2, 301) and n == 20
    for column, row in zip(values.T, means, strict=True):
        single = bootstrap_mean(column, groups, resamples=300, seed=5)
        assert interval_of(row, n) == pytest.approx(single)


def test_sums_of_columns_against_a_loop_over_images():
    """An image's rows, such as the draws of a random purifier, are drawn together."""
    random = np.random.default_rng(2)
    groups = random.permutation(np.repeat(np.arange(100, 112), 2))
    values = random.integers(0, 50, (24, 9))
    sums, n = resampled_sums(values, groups, resamples=40, seed=7)
    assert sums.shape == (41, 9) and n == 12
    assert np.array_equal(sums[0], values.sum(axis=0))
    (draws,) = _draws(12, 40, 7)
    for counts, row in zip(draws, sums[1:], strict=True):
        expected = np.zeros(9)
        for image, count in zip(range(100, 112), counts, strict=True):
            for _ in range(int(count)):
                expected += values[groups == image].sum(axis=0)
        assert np.array_equal(row, expected)


def confusions(random, images: int, accuracy: float) -> np.ndarray:
    """Confusion matrices of images with random shares of three classes: int [images, 9]."""
    shares = random.dirichlet(np.ones(3), images)
    counts = np.zeros((images, 3, 3), dtype=int)
    for name in range(3):
        # Pixels of one image are not independent: images differ in their difficulty.
        probability = np.clip(accuracy + random.normal(0, 0.1, images), 0, 1)
        pixels = (400 * shares[:, name]).astype(int)
        counts[:, name, name] = random.binomial(pixels, probability)
        counts[:, name, (name + 1) % 3] = pixels - counts[:, name, name]
    return counts.reshape(images, 9)


def test_the_interval_of_a_miou_has_its_nominal_coverage():
    """Images are resampled: a bootstrap over pixels would be far too narrow."""
    random = np.random.default_rng(3)
    truth = miou(confusions(random, 100_000, 0.7).sum(axis=0).reshape(3, 3))
    covered = 0
    for seed in range(200):
        drawn = confusions(random, 60, 0.7)
        sums, n = resampled_sums(drawn, np.arange(60), resamples=300, seed=seed)
        estimate = interval_of(miou(sums.reshape(-1, 3, 3)), n)
        covered += estimate.low <= truth <= estimate.high
    assert 0.9 <= covered / 200 <= 0.99


def test_ratios_of_mious_are_resampled_jointly():
    """The interval is narrower for mIoUs of the same images than for independent ones."""
    random = np.random.default_rng(4)
    clean = confusions(random, 80, 0.8)
    attacked = clean.reshape(80, 3, 3).copy()
    wrong = attacked[:, range(3), range(3)] // 2
    attacked[:, range(3), range(3)] -= wrong
    attacked[:, range(3), [1, 2, 0]] += wrong
    first, second, other = (
        miou(resampled_sums(values.reshape(80, 9), np.arange(80), seed=seed)[0].reshape(-1, 3, 3))
        for values, seed in ((attacked, 0), (clean, 0), (clean, 1))
    )
    ratio, unpaired = interval_of(first / second, 80), interval_of(first / other, 80)
    assert ratio.value == unpaired.value == first[0] / second[0]
    assert ratio.low < ratio.value < ratio.high
    assert ratio.high - ratio.low < 0.7 * (unpaired.high - unpaired.low)
    same = interval_of(second / second, 80)
    assert same[:3] == (1, 1, 1)
