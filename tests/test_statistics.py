"""Intervals against statsmodels, scipy, brute force and their nominal coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from scripts.advdenoise.statistics import (
    Estimate,
    _draws,
    _weighted_auc,
    bootstrap_auc,
    bootstrap_difference,
    bootstrap_mean,
    pooled,
    wilson,
)


@given(st.data(), st.integers(1, 10_000))
def test_wilson_against_statsmodels(data, n):
    from statsmodels.stats.proportion import proportion_confint

    successes = data.draw(st.integers(0, n) | st.floats(0, n))
    found = wilson(successes, n)
    low, high = proportion_confint(successes, n, method="wilson")
    assert found.value == successes / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_mean_against_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).lognormal(size=400)
    found = bootstrap_mean(values, resamples=4000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.n == 400
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.1 * width)


def test_rows_of_one_image_are_drawn_together():
    values = np.random.default_rng(2).normal(size=100)
    ids = np.arange(100)
    alone = bootstrap_mean(values, ids)
    tenfold = bootstrap_mean(np.tile(values, 10), np.tile(ids, 10))
    assert tenfold == pytest.approx(alone)
    naive = bootstrap_mean(np.tile(values, 10))
    assert naive.high - naive.low < 0.5 * (tenfold.high - tenfold.low)
    assert bootstrap_mean(values, [f"image {i}" for i in ids]).n == 100


def test_images_with_more_rows_weigh_more():
    found = bootstrap_mean([1.0, 1.0, 1.0, 0.0], [5, 5, 5, 9])
    assert found == (0.75, 0.0, 1.0, 2)


def test_difference_is_paired():
    generator = np.random.default_rng(3)
    images = generator.normal(size=500) * 10
    first, second = images + 1 + generator.normal(size=500) * 0.1, images
    found = bootstrap_difference(first, second)
    assert found.value == pytest.approx(1, abs=0.02)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.05


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30
    )
)
def test_weighted_auc_is_that_of_repeated_rows(rows):
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


def test_auc_value_does_not_depend_on_order_and_repeats_by_seed():
    generator = np.random.default_rng(4)
    positive = np.arange(300) < 150
    scores = np.round(generator.normal(size=300) + positive, 1)
    ids = np.arange(300) % 150
    found = bootstrap_auc(scores, positive, ids)
    assert found.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert found.low < found.value < found.high
    assert found.n == 150
    shuffled = generator.permutation(300)
    again = bootstrap_auc(scores[shuffled], positive[shuffled], ids[shuffled])
    assert again == pytest.approx(found)
    assert bootstrap_auc(scores, positive, ids, seed=1)[1:3] != found[1:3]


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
        pooled([])[0],
    ]
    for estimate in undefined:
        assert all(math.isnan(x) for x in estimate[:3])
    assert [estimate.n for estimate in undefined] == [0, 0, 0, 2, 0, 0, 2, 2, 0]
    assert bootstrap_mean([1.0, math.inf])[0] == math.inf
