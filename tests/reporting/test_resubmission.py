"""Several draws of a random defence, against counts by hand and brute force."""

import itertools
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advdenoise.reporting import resubmission
from advdenoise.reporting.read import Results
from advdenoise.reporting.resubmission import Draws
from advdenoise.reporting.tables.resubmission import by_threat
from advdenoise.statistics import wilson

RANDOM, FIXED = "tests.own_purifiers:noisy_descent", "basic.direct"


def draws(predictions, label: int = 0) -> Draws:
    predictions = np.asarray(predictions)
    count = len(predictions)
    return Draws(predictions, np.full(count, label), np.arange(count), np.zeros(count))


def test_measures_by_hand():
    """Of label 0: four, three and two draws of four, and one against two of another class."""
    four = draws([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 2], [2, 1, 2, 0]])
    assert resubmission.one_shot(four) == wilson(2, 4)
    assert resubmission.mean(four).value == pytest.approx((1 + 0.75 + 0.5 + 0.25) / 4)
    assert resubmission.worst_of(four, 4) == wilson(1, 4)
    assert resubmission.worst_of(four, 2).value == pytest.approx((1 + 3 / 6 + 1 / 6 + 0) / 4)
    assert resubmission.majority(four) == wilson(3, 4)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([0, 0, 1], True),
        ([0, 1], False),  # as many votes for another class
        ([0, 0, 1, 1, 2], False),
        ([0, 0, 1, 2], True),  # most votes, and not more than half
        ([1, 1, 1], False),
        ([0], True),
    ],
)
def test_a_majority_has_strictly_more_votes_than_any_other_class(votes, expected):
    assert resubmission.majority_hits(draws([votes])).tolist() == [expected]


@settings(max_examples=40)
@given(st.integers(1, 7), st.data())
def test_worst_of_m_is_the_mean_over_all_choices_of_m_draws(total, data):
    hits = np.array([data.draw(st.lists(st.booleans(), min_size=total, max_size=total))])
    m = data.draw(st.integers(1, total))
    chosen = list(itertools.combinations(range(total), m))
    expected = sum(hits[0, list(some)].all() for some in chosen) / comb(total, m)
    assert resubmission.worst_shares(hits, m) == pytest.approx([expected])


def test_worst_of_m_is_unbiased():
    random = np.random.default_rng(0)
    hits = random.random((40_000, 10)) < 0.9
    assert resubmission.worst_shares(hits, 5).mean() == pytest.approx(0.9**5, abs=0.005)
    # (c/R)^m is not.
    assert (hits.mean(1) ** 5).mean() > 0.9**5 + 0.01


@pytest.mark.parametrize("m", [0, 4])
def test_there_are_no_more_draws_than_were_taken(m):
    with pytest.raises(ValueError, match=r"must be in \[1, 3\]"):
        resubmission.worst_shares(np.ones((2, 3), bool), m)


def frame(predictions: np.ndarray, **names) -> pd.DataFrame:
    """Rows of predictions [N, R] of label 0."""
    parts = []
    for draw, column in enumerate(np.asarray(predictions).T):
        rows = {"id": np.arange(len(column)), "prediction": column, "draw": draw, "label": 0}
        parts.append(pd.DataFrame(rows))
    place = {"dataset": "digits", "split": "test", "classifier": "cnn", "seed": 0, "classes": 10}
    place |= {"threat": "clean", "attack_point": "default"}
    place |= {"purifier": "best", "purifier_point": "default"}
    return pd.concat(parts, ignore_index=True).assign(**{**place, **names})


def cells(*frames: pd.DataFrame, **given) -> dict:
    purifiers = {
        name: {"name": name, "points": {"default": {"function": function, "settings": {}}}}
        for name, function in (("best", RANDOM), ("direct", FIXED))
    }
    point = {"function": "gradient.pgd", "settings": {}}
    attacks = {
        "pgd": {"points": {"default": point}},
        "knows": {"points": {"default": point}, "knows_draws": True},
    }
    results = Results(pd.concat(frames), {"purifier": purifiers, "attack": attacks}, [])
    return {(cell.row, cell.column): cell for cell in by_threat(results, **given)}


def test_a_row_for_each_threat_and_purifier():
    random = np.random.default_rng(0)
    clean = random.integers(2, size=(30, 10))
    attacked = random.integers(3, size=(30, 10))
    found = cells(frame(clean), frame(attacked, threat="pgd@cnn+best"))
    columns = ["one draw", "mean of draws", "worst of 5", "worst of 10", "majority of 10"]
    rows = ["digits, cnn: clean, best", "digits, cnn: pgd+, best"]
    assert list(found) == [(row, column) for row in rows for column in columns]
    for row, predictions in zip(rows, (clean, attacked), strict=True):
        mean = found[row, "mean of draws"].estimate
        assert mean.value == pytest.approx(100 * (predictions == 0).mean())
        assert mean.low < mean.value < mean.high and mean.n == 30
        worst = found[row, "worst of 10"].estimate.value
        assert worst <= found[row, "worst of 5"].estimate.value <= mean.value
        assert found[row, "mean of draws"].about["draws"] == 10
    assert [cell.metric for cell in found.values()] == 5 * ["clean accuracy"] + 5 * [
        "robust accuracy"
    ]


def test_without_random_numbers_all_columns_are_equal():
    direct = frame(np.array([[0], [1], [0]]), purifier="direct")
    found = cells(frame(np.zeros((3, 6), int)), direct)
    values = {c: cell.estimate for (r, c), cell in found.items() if r.endswith("direct")}
    columns = {"one draw", "mean of draws", "worst of 5", "worst of 6", "majority of 6"}
    assert set(values) == columns
    assert [e.value for e in values.values()] == pytest.approx([200 / 3] * 5)


def test_a_random_purifier_of_one_draw_is_not_repeated():
    columns = {column for _, column in cells(frame(np.zeros((3, 1), int)))}
    assert columns == {"one draw", "mean of draws", "worst of 1", "majority of 1"}


def test_an_attack_that_has_the_draws_is_judged_on_the_first():
    attacked = frame(np.array([[1, 0], [0, 1], [1, 0], [1, 0]]), threat="knows@cnn+best")
    found = cells(frame(np.zeros((4, 2), int)), attacked)
    own = {column: cell for (row, column), cell in found.items() if "knows" in row}
    assert list(own) == ["fixed draw"] and own["fixed draw"].estimate.value == 25


def test_replicates_are_pooled_and_their_spread_is_shown():
    first, second = frame(np.zeros((4, 3), int)), frame(np.ones((4, 3), int), seed=1)
    cell = cells(first, second, worst_of=2)["digits, cnn: clean, best", "worst of 2"]
    assert cell.estimate.value == 50 and cell.spread == pytest.approx(100 * np.std([0, 1], ddof=1))
