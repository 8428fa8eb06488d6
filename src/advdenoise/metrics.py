"""Accuracy, attack success, overlap and detection rates of whole sets, NaN where undefined."""

import math

import numpy as np


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of all images whose predicted class is the label, both [N].

    Clean accuracy on clean images, robust accuracy on adversarial ones.
    """
    return _share(np.asarray(predictions) == np.asarray(labels))


def attack_success_rate(
    clean_predictions: np.ndarray, adversarial_predictions: np.ndarray, labels: np.ndarray
) -> float:
    """Share of misclassified adversarial images, over images the classifier had right; all [N]."""
    labels = np.asarray(labels)
    right = np.asarray(clean_predictions) == labels
    return _share((np.asarray(adversarial_predictions) != labels)[right])


def miou(confusion: np.ndarray, absent: str = "skip") -> np.ndarray:
    """Mean over classes of TP / (TP + FP + FN), their intersection over union: [...].

    `confusion` [..., K, K] counts pixels, rows by their true class, columns by the predicted one.
    A class that is neither true nor predicted anywhere is left out of the mean (`skip`), or counts
    as 0 (`zero`) or 1 (`one`).
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    present = union > 0
    overlap = np.where(present, hits / np.where(present, union, 1), float(absent == "one"))
    counted = present.sum(-1) if absent == "skip" else np.full(union.shape[:-1], union.shape[-1])
    with np.errstate(invalid="ignore"):
        return overlap.sum(-1) / counted


def roc_auc(scores: np.ndarray, is_adversarial: np.ndarray) -> float:
    """Area under the ROC curve of `scores` [N], higher = more adversarial.

    The share of pairs (adversarial, clean) in which the adversarial image has the higher score;
    a tie counts half.
    """
    positives, negatives = _by_score(scores, is_adversarial)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return math.nan
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs)


def tpr_at_fpr(scores: np.ndarray, is_adversarial: np.ndarray, fpr: float) -> float:
    """The highest true positive rate of a threshold whose false positive rate is at most `fpr`.

    Thresholds lie at the scores, nothing is interpolated: with ties or few clean images the
    false positive rate itself may be well below `fpr`.
    """
    positives, negatives = _by_score(scores, is_adversarial)
    if positives.sum() == 0 or negatives.sum() == 0:
        return math.nan
    true = np.cumsum(positives[::-1]) / positives.sum()
    false = np.cumsum(negatives[::-1]) / negatives.sum()
    return float(true[false <= fpr].max(initial=0.0))


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else math.nan


def _by_score(scores: np.ndarray, is_adversarial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of adversarial and of clean images at each distinct score, lowest first."""
    scores = np.asarray(scores)
    if np.isnan(scores).any():  # no order, hence no rates
        return np.zeros(1), np.zeros(1)
    distinct, place = np.unique(scores, return_inverse=True)
    is_adversarial = np.asarray(is_adversarial, dtype=bool)
    counts = [
        np.bincount(place[rows], minlength=len(distinct))
        for rows in (is_adversarial, ~is_adversarial)
    ]
    return counts[0].astype(float), counts[1].astype(float)
