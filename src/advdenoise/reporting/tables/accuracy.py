"""Accuracy tables that belong to no paper: every threat against every purifier."""

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.measures import accuracy
from advdenoise.reporting.read import Results
from advdenoise.reporting.worst import ADAPTIVE, ALL, CROSS_FITTED, OBLIVIOUS, threats_by_defence
from advdenoise.reporting.worst import worst_case as worst

_COLUMNS = {
    CLEAN: "clean",
    OBLIVIOUS: "worst of the oblivious attacks",
    ADAPTIVE: "worst of the adaptive attacks",
    ALL: "worst of all attacks",
    CROSS_FITTED: "worst of all attacks, chosen on other draws",
}
_SEVERAL_DRAWS = (
    "The smallest of several shares over few draws lies too low. Chosen on other draws: the worst "
    "attack of each image is chosen on half of the draws and judged on the other half, both ways."
)


def by_threat(predictions: Results) -> list[Cell]:
    """Clean and robust accuracy: rows are classifier and threat, columns purifiers."""

    def label(about: dict) -> tuple[str, str]:
        threat = labels.threat(about["threat"], about["attack_point"], about["classifier"])
        return f"{about['dataset']}, {about['classifier']}: {threat}", labels.purifier(about)

    return accuracy(predictions, label)


def worst_case(predictions: Results, *, among_top: bool = False) -> Cells:
    """Clean accuracy, and robust accuracy where each image meets the attack that is worst for it.

    Rows are defences, columns sets of attacks, notes the threats of each defence. With `among_top`
    a label among the max(1, classes // 100) largest outputs counts as correct. Of defences with
    several draws the worst of all attacks stands a second time, with each image's attack chosen on
    half of the draws and judged on the other half.
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
    cells = worst(predictions, label, among_top=among_top)
    if any(cell.about["attacker"] == CROSS_FITTED for cell in cells):
        notes.append(_SEVERAL_DRAWS)
    return Cells(cells, notes)


def _defence(dataset: str, classifier: str, purifier: str, point: str) -> str:
    return f"{dataset}, {classifier}: {labels.with_point(purifier, point)}"
