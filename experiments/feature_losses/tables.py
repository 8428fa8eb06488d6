"""Tables of "Feature losses": accuracy of the defences under FGSM and PGD."""

from dataclasses import replace
from pathlib import Path

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import architecture as layers
from advdenoise.reporting.cells import YES_NO, Cell, Cells
from advdenoise.reporting.measures import accuracy, chance
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from .results import LabelAssignment

OBLIVIOUS, ADAPTIVE, BROKEN = "accuracy", "adaptive", "BROKEN?"
_NOTES = (
    "adaptive: accuracy under the same attack, adaptive to the purifier. Without a purifier the "
    "plain attack is adaptive, and stands in both columns.",
    "BROKEN?: no where the whole interval of the adaptive accuracy lies above chance, one over the "
    "number of classes, else yes; empty where no attack was adaptive.",
)


def defences(predictions: Results) -> Cells:
    """Tables 1 and 2: rows are attack and defence, columns accuracy, adaptive and BROKEN?.

    `accuracy` in % is the paper's, under oblivious attacks; clean accuracy has rows of its own.
    `LabelAssignment` says which entries have the printed names.
    """
    labeler = LabelAssignment(predictions)

    def label(about: dict) -> tuple[str, str]:
        case = labeler.case(about)
        return f"{case.attack} / {case.defence}", ADAPTIVE if case.adaptive else OBLIVIOUS

    cells = [
        replace(cell, about=cell.about | {"network": labeler.network(cell.about)})
        for cell in accuracy(predictions, label)
    ]
    adaptive = [cell for cell in cells if cell.column == ADAPTIVE]
    adaptive += [
        replace(cell, column=ADAPTIVE)
        for cell in cells
        if labeler.is_plain_classifier(cell.about) and cell.about["threat"] != CLEAN
    ]
    level = chance(predictions)
    broken = [
        _broken(cell, 100 * level[cell.about["dataset"], cell.about["split"]]) for cell in adaptive
    ]
    oblivious = [cell for cell in cells if cell.column == OBLIVIOUS]
    return Cells([*oblivious, *adaptive, *broken], [*_NOTES, *labeler.notes()])


def architecture(calibration: list[Path]) -> Cells:
    """Figure 4 as a table: layers of the autoencoders, read from the networks."""
    return layers.architecture(calibration)


def _broken(cell: Cell, chance: float) -> Cell:
    """Whether the interval of a defence's accuracy reaches down to chance."""
    estimate = Estimate.without_interval(cell.estimate.low <= chance, cell.estimate.n)
    return Cell(cell.row, BROKEN, "broken", YES_NO, estimate, about=cell.about)
