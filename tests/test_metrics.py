"""Metrics against scikit-learn, brute force and their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from scripts.advdenoise.metrics import accuracy, attack_success_rate, roc_auc, tpr_at_fpr

# Few distinct scores, so that ties are the rule.
ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


def unpack(rows):
    scores, is_adversarial = zip(*rows, strict=True)
    return np.array(scores, dtype=np.float32), np.array(is_adversarial)


@given(ROWS)
def test_roc_auc_against_scikit_learn(rows):
    scores, is_adversarial = unpack(rows)
    if is_adversarial.all() or not is_adversarial.any():
        assert math.isnan(roc_auc(scores, is_adversarial))
    else:
        assert roc_auc(scores, is_adversarial) == pytest.approx(
            roc_auc_score(is_adversarial, scores), abs=1e-12
        )


@given(ROWS, st.one_of(st.sampled_from([0, 0.01, 0.05, 0.1, 0.3, 1]), st.floats(0, 1)))
def test_tpr_at_fpr_against_all_thresholds(rows, fpr):
    scores, is_adversarial = unpack(rows)
    found = tpr_at_fpr(scores, is_adversarial, fpr)
    if is_adversarial.all() or not is_adversarial.any():
        assert math.isnan(found)
        return
    best = 0.0
    for threshold in (*scores, np.inf):
        flagged = scores >= threshold
        if flagged[~is_adversarial].mean() <= fpr:
            best = max(best, flagged[is_adversarial].mean())
    assert found == best
    false, true, _ = roc_curve(is_adversarial, scores, drop_intermediate=False)
    assert found == pytest.approx(true[false <= fpr].max())


def test_tpr_at_exactly_the_false_positive_rate():
    scores = np.r_[np.arange(10), 8.5, 0.5]
    is_adversarial = np.r_[np.zeros(10, bool), True, True]
    assert tpr_at_fpr(scores, is_adversarial, 0.1) == 0.5
    assert tpr_at_fpr(scores, is_adversarial, 0.0999) == 0.0
    assert tpr_at_fpr(scores, is_adversarial, 0.9) == 1.0


def test_perfect_inverted_and_blind_scores():
    is_adversarial = np.array([False, True] * 5)
    assert roc_auc(is_adversarial, is_adversarial) == 1
    assert roc_auc(~is_adversarial, is_adversarial) == 0
    assert roc_auc(np.zeros(10), is_adversarial) == 0.5
    assert tpr_at_fpr(is_adversarial, is_adversarial, 0) == 1
    assert tpr_at_fpr(np.zeros(10), is_adversarial, 0.99) == 0
    assert tpr_at_fpr(np.zeros(10), is_adversarial, 1) == 1
    assert roc_auc([-np.inf, np.inf], [False, True]) == 1


def test_accuracy_counts_all_images_and_success_those_that_were_right():
    labels = np.array([0, 1, 2, 2])
    clean, adversarial = np.array([0, 1, 2, 0]), np.array([0, 2, 1, 2])
    assert accuracy(clean, labels) == 0.75
    assert accuracy(adversarial, labels) == 0.5
    assert attack_success_rate(clean, adversarial, labels) == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("error")
def test_undefined_is_nan():
    assert math.isnan(accuracy([], []))
    assert math.isnan(attack_success_rate([1], [0], [0]))  # none was right
    for scores, is_adversarial in [([], []), ([1.0], [True]), ([0.0, np.nan], [True, False])]:
        assert math.isnan(roc_auc(scores, is_adversarial))
        assert math.isnan(tpr_at_fpr(scores, is_adversarial, 0.1))
