"""Accuracy, attack success, mIoU and detection rates; NaN where undefined."""

import math

import numpy as np


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of images whose predicted class is the label; both are int [N].

    This is the clean accuracy for clean images and the robust accuracy for adversarial ones.
    """
    return _share(np.asarray(predictions) == np.asarray(labels))


def attack_success_rate(
    clean_predictions: np.ndarray, adversarial_predictions: np.ndarray, labels: np.ndarray
) -> float:
    """Fraction of the correctly classified images that are misclassified when attacked; int [N]."""
    labels = np.asarray(labels)
    correct = np.asarray(clean_predictions) == labels
    return _share((np.asarray(adversarial_predictions) != labels)[correct])


def miou(confusion: np.ndarray, absent: str = "skip") -> np.ndarray:
    """Mean intersection over union, the mean over classes of TP / (TP + FP + FN): float [...].

    Args:
        confusion: numbers of pixels [..., K, K], with rows for true and columns for predicted
            classes.
        absent: what to do with classes that no pixel has or is predicted as: leave them out of the
            mean (`skip`), or count them as 0 (`zero`) or 1 (`one`).
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    present = union > 0
    overlap = np.where(present, hits / np.where(present, union, 1), float(absent == "one"))
    n_classes = present.sum(-1) if absent == "skip" else np.full(union.shape[:-1], union.shape[-1])
    with np.errstate(invalid="ignore"):
        return overlap.sum(-1) / n_classes


def pixel_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of labelled pixels that are predicted right, of matrices [..., K, K] as in `miou`."""
    hits, total = _hits_and_total(confusion)
    return _divided(hits, total)


def micro_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of all classes together, TP / (TP + FP + FN) of their sums.

    Of matrices [..., K, K] as in `miou`. Each wrong pixel counts twice in the union.
    """
    hits, total = _hits_and_total(confusion)
    return _divided(hits, 2 * total - hits)


def lowest_miou(confusion: np.ndarray, seed: int = 0) -> np.ndarray:
    """For each image the attack that, over all images, brings mIoU down: int [N].

    mIoU is of the images' summed matrices, so that the attack that is worst for one image depends
    on those of the others. All images begin with the attack that has the lowest mIoU. They are then
    visited in a random order, again and again; each gets another attack where that lowers mIoU,
    until a pass over all images gains at most 1e-6 (Croce, Singh & Hein 2024). It is no higher than
    that of any attack, and may be higher than the minimum over all choices.

    Args:
        confusion: numbers of pixels [A, N, K, K] of A attacks on N images, as in `miou`.
        seed: of the order.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    of_attacks = np.nan_to_num(miou(confusion.sum(1)), nan=np.inf)
    chosen = np.full(confusion.shape[1], int(of_attacks.argmin()))
    total, lowest = confusion[chosen[0]].sum(0), of_attacks.min()
    order = np.random.default_rng(seed).permutation(len(chosen))
    gain = np.inf
    while gain > 1e-6 and np.isfinite(lowest):
        before = lowest
        for image in order:
            options = total - confusion[chosen[image], image] + confusion[:, image]
            values = np.nan_to_num(miou(options), nan=np.inf)
            best = int(values.argmin())
            if values[best] < lowest:
                chosen[image], total, lowest = best, options[best], values[best]
        gain = before - lowest
    return chosen


def roc_auc(scores: np.ndarray, is_adversarial: np.ndarray) -> float:
    """Area under the ROC curve of `scores` [N], which are higher for adversarial images.

    It is the fraction of pairs (adversarial, clean) in which the adversarial image has the higher
    score; ties count half. `is_adversarial` is bool [N].
    """
    positives, negatives = _by_score(scores, is_adversarial)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0:
        return math.nan
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs)


def tpr_at_fpr(scores: np.ndarray, is_adversarial: np.ndarray, fpr: float) -> float:
    """The highest true positive rate of thresholds with a false positive rate of at most `fpr`.

    Thresholds are the scores themselves, without interpolation: with ties or few clean images, the
    false positive rate of the threshold may be well below `fpr`. Arguments as for `roc_auc`.
    """
    positives, negatives = _by_score(scores, is_adversarial)
    if positives.sum() == 0 or negatives.sum() == 0:
        return math.nan
    true = np.cumsum(positives[::-1]) / positives.sum()
    false = np.cumsum(negatives[::-1]) / negatives.sum()
    return float(true[false <= fpr].max(initial=0.0))


def _hits_and_total(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confusion = np.asarray(confusion, dtype=np.float64)
    return np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1))


def _divided(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return first / second


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else math.nan


def _by_score(scores: np.ndarray, is_adversarial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of adversarial and of clean images at each distinct score, lowest first."""
    scores = np.asarray(scores)
    if np.isnan(scores).any():  # NaN has no order
        return np.zeros(1), np.zeros(1)
    distinct, index = np.unique(scores, return_inverse=True)
    is_adversarial = np.asarray(is_adversarial, dtype=bool)
    counts = [
        np.bincount(index[rows], minlength=len(distinct))
        for rows in (is_adversarial, ~is_adversarial)
    ]
    return counts[0].astype(float), counts[1].astype(float)
