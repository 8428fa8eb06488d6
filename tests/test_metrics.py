"""Metrics against scikit-learn, brute force and their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import jaccard_score, roc_auc_score, roc_curve

from advdenoise.metrics import accuracy, attack_success_rate, miou, roc_auc, tpr_at_fpr

# Few distinct scores, so that there are many ties
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
    result = tpr_at_fpr(scores, is_adversarial, fpr)
    if is_adversarial.all() or not is_adversarial.any():
        assert math.isnan(result)
        return
    best = 0.0
    for threshold in (*scores, np.inf):
        flagged = scores >= threshold
        if flagged[~is_adversarial].mean() <= fpr:
            best = max(best, flagged[is_adversarial].mean())
    assert result == best
    false, true, _ = roc_curve(is_adversarial, scores, drop_intermediate=False)
    assert result == pytest.approx(true[false <= fpr].max())


def test_tpr_at_exactly_the_false_positive_rate():
    scores = np.r_[np.arange(10), 8.5, 0.5]
    is_adversarial = np.r_[np.zeros(10, bool), True, True]
    assert tpr_at_fpr(scores, is_adversarial, 0.1) == 0.5
    assert tpr_at_fpr(scores, is_adversarial, 0.0999) == 0.0
    assert tpr_at_fpr(scores, is_adversarial, 0.9) == 1.0


def test_perfect_inverted_and_constant_scores():
    is_adversarial = np.array([False, True] * 5)
    assert roc_auc(is_adversarial, is_adversarial) == 1
    assert roc_auc(~is_adversarial, is_adversarial) == 0
    assert roc_auc(np.zeros(10), is_adversarial) == 0.5
    assert tpr_at_fpr(is_adversarial, is_adversarial, 0) == 1
    assert tpr_at_fpr(np.zeros(10), is_adversarial, 0.99) == 0
    assert tpr_at_fpr(np.zeros(10), is_adversarial, 1) == 1
    assert roc_auc([-np.inf, np.inf], [False, True]) == 1


def test_accuracy_is_over_all_images_and_success_over_correctly_classified_ones():
    labels = np.array([0, 1, 2, 2])
    clean, adversarial = np.array([0, 1, 2, 0]), np.array([0, 2, 1, 2])
    assert accuracy(clean, labels) == 0.75
    assert accuracy(adversarial, labels) == 0.5
    assert attack_success_rate(clean, adversarial, labels) == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("error")
def test_undefined_is_nan():
    assert math.isnan(accuracy([], []))
    assert math.isnan(attack_success_rate([1], [0], [0]))  # none is correctly classified
    for scores, is_adversarial in [([], []), ([1.0], [True]), ([0.0, np.nan], [True, False])]:
        assert math.isnan(roc_auc(scores, is_adversarial))
        assert math.isnan(tpr_at_fpr(scores, is_adversarial, 0.1))


# ---------------------------------------------------------------- overlap of masks

CLASSES = 5
PIXELS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 4, 255]), st.sampled_from([0, 1, 3, 4])), max_size=30
)


def masks(pixels):
    """True classes (255 for none) and predicted classes of the pixels: [P] each."""
    return np.array(pixels, dtype=np.int64).reshape(-1, 2).T


def confusion(true, predicted):
    matrix = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    for row, column in zip(true, predicted, strict=True):
        if row != 255:
            matrix[row, column] += 1
    return matrix


def ious_of(true, predicted) -> list[float]:
    """Intersection over union of each class from sets of pixels; NaN if both are empty."""
    ious = []
    labelled = {i for i, label in enumerate(true) if label != 255}
    for name in range(CLASSES):
        first, second = ({i for i in labelled if m[i] == name} for m in (true, predicted))
        union = first | second
        ious.append(len(first & second) / len(union) if union else math.nan)
    return ious


@pytest.mark.filterwarnings("error")
@settings(deadline=None)
@given(PIXELS)
def test_miou_against_sets_of_pixels(pixels):
    true, predicted = masks(pixels)
    matrix, ious = confusion(true, predicted), np.array(ious_of(true, predicted))
    if np.isnan(ious).all():
        assert math.isnan(miou(matrix))
    else:
        assert miou(matrix) == pytest.approx(np.nanmean(ious))
    for policy, value in (("zero", 0), ("one", 1)):
        expected = np.where(np.isnan(ious), value, ious).mean()
        assert miou(matrix, absent=policy) == pytest.approx(expected)


@settings(deadline=None)
@given(PIXELS)
def test_miou_against_scikit_learn(pixels):
    """scikit-learn counts absent classes as `zero_division`."""
    true, predicted = masks(pixels)
    is_labelled = true != 255
    if not is_labelled.any():
        return
    for policy, value in (("zero", 0.0), ("one", 1.0)):
        expected = jaccard_score(
            true[is_labelled],
            predicted[is_labelled],
            labels=range(CLASSES),
            average="macro",
            zero_division=value,
        )
        assert miou(confusion(true, predicted), absent=policy) == pytest.approx(expected)


@pytest.mark.slow  # its import takes ten seconds
def test_miou_against_torchmetrics():
    """torchmetrics leaves absent classes out, as our default does."""
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    random = np.random.default_rng(0)
    for classes in ([0, 1, 2, 3, 4], [0, 2], [3]):  # all, and some that are absent
        metric = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=255)
        total = np.zeros((CLASSES, CLASSES), dtype=int)
        for _ in range(4):  # one matrix for all batches instead of a mean over batches
            true = random.choice([*classes, 255], size=(3, 8, 9))
            predicted = random.choice(classes, size=(3, 8, 9))
            metric.update(torch.from_numpy(predicted), torch.from_numpy(true))
            total += confusion(true.ravel(), predicted.ravel())
        assert miou(total) == pytest.approx(metric.compute().item(), abs=1e-6)


def test_miou_by_hand():
    """The IoU of class 0 is 3/5, that of class 1 is 1/3; class 2 is absent."""
    matrix = [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert miou(matrix) == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert miou(matrix, absent="zero") == pytest.approx((3 / 5 + 1 / 3) / 3)
    assert miou(matrix, absent="one") == pytest.approx((3 / 5 + 1 / 3 + 1) / 3)
    # A class that is only predicted is present with an IoU of 0.
    assert miou([[3, 1], [0, 0]]) == pytest.approx(3 / 8)


@settings(deadline=None)
@given(arrays.arrays(np.int64, (3, 2, CLASSES, CLASSES), elements=st.integers(0, 9)))
def test_miou_of_several_matrices(matrices):
    result = miou(matrices)
    assert result.shape == (3, 2)
    for index in np.ndindex(3, 2):
        assert result[index] == pytest.approx(miou(matrices[index]), nan_ok=True)
        assert miou(7 * matrices[index]) == pytest.approx(result[index], nan_ok=True)
