"""Accuracy tables that belong to no paper: every threat against every purifier."""

from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import Cell
from scripts.advdenoise.tables._measures import accuracy
from scripts.advdenoise.tables._read import Results


def by_threat(predictions: Results) -> list[Cell]:
    """Clean and robust accuracy: rows are classifier and threat, columns purifiers."""

    def label(about: dict) -> tuple[str, str]:
        threat = _labels.threat(about["threat"], about["attack_point"], about["classifier"])
        purifier = _labels.with_point(about["purifier"], about["purifier_point"])
        return f"{about['dataset']}, {about['classifier']}: {threat}", purifier

    return accuracy(predictions, label)
