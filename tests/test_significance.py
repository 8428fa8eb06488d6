"""Tests on images against scipy, statsmodels, brute force and published constants."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.significance import (
    binomial_tail,
    fisher,
    holm,
    images_for_power,
    mcnemar,
    sign_flip,
)


@given(st.data(), st.integers(0, 3000), st.floats(1e-4, 0.999))
def test_binomial_tail_against_scipy(data, n, rate):
    from scipy.stats import binom

    count = data.draw(st.integers(0, n + 1))
    expected = binom.sf(count - 1, n, rate)
    assert binomial_tail(count, n, rate) == pytest.approx(expected, rel=1e-8, abs=1e-14)


@pytest.mark.parametrize(
    ("rate", "smallest"),
    [
        (0.002, {50: 2, 100: 2, 200: 3, 300: 3, 500: 4}),
        (0.01, {50: 3, 100: 4, 200: 6, 300: 7, 500: 10}),
    ],
)
def test_the_smallest_count_that_is_significant(rate, smallest):
    for n, expected in smallest.items():
        assert next(b for b in range(n) if binomial_tail(b, n, rate) <= 0.05) == expected


@pytest.mark.parametrize(
    ("pair", "p"), [((5, 0), 0.031), ((6, 1), 0.0625), ((7, 1), 0.035), ((9, 2), 0.033)]
)
def test_mcnemar_has_known_values(pair, p):
    assert mcnemar(*pair) == pytest.approx(p, abs=5e-4)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_against_scipy(against, expected):
    from scipy.stats import binomtest

    p = 1.0
    if against + expected:
        p = binomtest(against, against + expected, 0.5, alternative="greater").pvalue
    assert mcnemar(against, expected) == pytest.approx(p)


def test_mcnemar_against_statsmodels():
    """Its exact p-value is two-sided."""
    from statsmodels.stats.contingency_tables import mcnemar as reference

    for against, expected in ((12, 3), (9, 2), (20, 4)):
        p = reference([[0, against], [expected, 0]], exact=True).pvalue
        assert mcnemar(against, expected) == pytest.approx(p / 2)
    assert mcnemar(12, 3) == pytest.approx(0.018, abs=5e-4)


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=40))
def test_the_sign_flip_of_ones_is_mcnemars(values):
    values = np.array(values, dtype=float)
    assert sign_flip(values) == mcnemar(int((values == 1).sum()), int((values == -1).sum()))


def test_the_sign_flip_against_all_signs():
    differences = np.array([0.5, 0.4, 0.4, -0.1, 0.3, -0.3, 0.2, 0.1, 0.6, -0.2])
    sums = [np.dot(s, np.abs(differences)) for s in itertools.product((-1, 1), repeat=10)]
    exact = np.mean(np.array(sums) >= differences.sum() - 1e-9)
    deviation = np.sqrt(exact * (1 - exact) / 10_000)
    assert sign_flip(differences) == pytest.approx(exact, abs=5 * deviation)
    assert sign_flip(differences) == sign_flip(differences[::-1])
    assert sign_flip(differences, seed=1) != sign_flip(differences)


def test_the_sign_flip_against_scipy():
    from scipy.stats import permutation_test

    differences = np.random.default_rng(3).normal(0.2, 1, 60)
    reference = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=9999,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    assert sign_flip(differences) == pytest.approx(reference.pvalue, abs=0.02)


def test_no_image_says_nothing():
    assert binomial_tail(0, 0, 0.002) == 1 and mcnemar(0, 0) == 1
    assert sign_flip(np.array([])) == 1 and sign_flip(np.zeros(9)) == 1
    assert holm([]) == []


def test_holm_against_statsmodels():
    from statsmodels.stats.multitest import multipletests

    random = np.random.default_rng(0)
    for count in range(1, 13):
        p_values = np.round(random.random(count) ** 3, 2)  # with ties
        _, expected, _, _ = multipletests(p_values, method="holm")
        assert holm(p_values) == pytest.approx(list(expected))


@given(st.data(), st.integers(1, 12), st.integers(1, 12))
def test_fisher_against_scipy(data, n, other_n):
    from scipy.stats import fisher_exact

    hits, other_hits = data.draw(st.integers(0, n)), data.draw(st.integers(0, other_n))
    table = [[hits, n - hits], [other_hits, other_n - other_hits]]
    expected = fisher_exact(table, alternative="greater").pvalue
    assert fisher(hits, n, other_hits, other_n) == pytest.approx(expected)


def test_how_many_images_are_needed():
    assert images_for_power(0.2, 0.1) == 155
    assert images_for_power(0.1, 0.05) == 312


def test_two_attacks_that_miss_rarely_are_seldom_told_apart():
    """Both miss 0.1 % of images: V fires with probability 0.0012, 0.0011 and 0.0017."""
    from scipy.stats import binom

    for n, expected in ((50, 0.0012), (200, 0.0011), (500, 0.0017)):
        smallest = next(b for b in range(n) if binomial_tail(b, n, 0.002) <= 0.05)
        # A violation is an image that one of them misses and the other does not.
        chance = binom.sf(smallest - 1, n, 0.001 * 0.999)
        assert chance == pytest.approx(expected, abs=1e-4)
