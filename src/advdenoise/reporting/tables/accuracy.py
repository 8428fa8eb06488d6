"""Accuracy tables that belong to no paper: every threat against every purifier."""

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.measures import accuracy
from advdenoise.reporting.read import Results
from advdenoise.reporting.worst import ADAPTIVE, ALL, OBLIVIOUS, met
from advdenoise.reporting.worst import worst_case as worst

_COLUMNS = {
    CLEAN: "clean",
    OBLIVIOUS: "worst of the attacks that do not know the purifier",
    ADAPTIVE: "worst of the attacks that know it",
    ALL: "worst of all attacks",
}


def by_threat(predictions: Results) -> list[Cell]:
    """Clean and robust accuracy: rows are classifier and threat, columns purifiers."""

    def label(about: dict) -> tuple[str, str]:
        threat = labels.threat(about["threat"], about["attack_point"], about["classifier"])
        purifier = labels.with_point(about["purifier"], about["purifier_point"])
        return f"{about['dataset']}, {about['classifier']}: {threat}", purifier

    return accuracy(predictions, label)


def worst_case(predictions: Results, *, among_top: bool = False) -> Cells:
    """Clean accuracy, and robust accuracy where each image meets the attack that is worst for it.

    Rows are defences, columns what the attackers know. With `among_top` a hit is a label among the
    max(1, classes // 100) largest outputs. Notes say what each defence was tried on.
    """

    def label(about: dict) -> tuple[str, str]:
        names = [about[name] for name in ("dataset", "classifier", "purifier", "purifier_point")]
        return _defence(*names), _COLUMNS[about["attacker"]]

    tried: dict[tuple[str, ...], list[str]] = {}
    for defence, threats in met(predictions).items():
        tried.setdefault(tuple(threats), []).append(_defence(*defence))
    notes = [
        f"{'; '.join(defences)}: {len(threats)} threats, {', '.join(threats)}."
        for threats, defences in tried.items()
    ]
    return Cells(worst(predictions, label, among_top=among_top), notes)


def _defence(dataset: str, classifier: str, purifier: str, point: str) -> str:
    return f"{dataset}, {classifier}: {labels.with_point(purifier, point)}"
