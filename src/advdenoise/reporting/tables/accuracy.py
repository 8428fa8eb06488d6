"""Accuracy tables that belong to no paper: every threat against every purifier."""

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.measures import accuracy
from advdenoise.reporting.read import Results
from advdenoise.reporting.worst import ADAPTIVE, ALL, OBLIVIOUS, threats_by_defence
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
        return f"{about['dataset']}, {about['classifier']}: {threat}", labels.purifier(about)

    return accuracy(predictions, label)


def worst_case(predictions: Results, *, among_top: bool = False) -> Cells:
    """Clean accuracy, and robust accuracy where each image meets the attack that is worst for it.

    Rows are defences, columns sets of attacks, notes the threats of each defence. With `among_top`
    a label among the max(1, classes // 100) largest outputs counts as correct.
    """

    def label(about: dict) -> tuple[str, str]:
        names = [about[name] for name in ("dataset", "classifier", "purifier", "purifier_point")]
        return _defence(*names), _COLUMNS[about["attacker"]]

    by_threats: dict[tuple[str, ...], list[str]] = {}
    for defence, threats in threats_by_defence(predictions).items():
        by_threats.setdefault(tuple(threats), []).append(_defence(*defence))
    notes = [
        f"{'; '.join(defences)}: {len(threats)} threats, {', '.join(threats)}."
        for threats, defences in by_threats.items()
    ]
    return Cells(worst(predictions, label, among_top=among_top), notes)


def _defence(dataset: str, classifier: str, purifier: str, point: str) -> str:
    return f"{dataset}, {classifier}: {labels.with_point(purifier, point)}"
