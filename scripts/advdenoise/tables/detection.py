"""Detection tables that belong to no paper."""

from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import Cell
from scripts.advdenoise.tables._measures import auc, true_positive_rates
from scripts.advdenoise.tables._read import Results


def by_detector(detection: Results) -> list[Cell]:
    """AUC, and TPR at 1, 5 and 10 % FPR, of every detector on every attack and representation."""

    def label(about: dict) -> tuple[str, str]:
        threat = _labels.threat(about["threat"], about["attack_point"], about["classifier"])
        attribution = _labels.with_point(about["attribution"], about["attribution_point"])
        detector = _labels.with_point(about["detector"], about["detector_point"])
        row = f"{about['dataset']}, {about['classifier']}: {threat}, {attribution}"
        return row, f"{detector} {about['representation']} ({about['protocol']})"

    return auc(detection, label) + true_positive_rates(detection, label)
