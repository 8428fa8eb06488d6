"""Tables of "Feature losses": accuracy of the defences under FGSM and PGD."""

import math
from dataclasses import replace
from pathlib import Path

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import architecture as layers
from advdenoise.reporting.cells import YES_NO, Cell, Cells
from advdenoise.reporting.measures import accuracy, chance
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from .results import Defences

OBLIVIOUS, ADAPTIVE, BROKEN = "accuracy", "adaptive", "BROKEN?"
_NOTES = (
    "adaptive: accuracy under the same attack by one who knows the purifier too. Without a "
    "purifier there is nothing more to know, and the plain attack stands in both columns.",
    "BROKEN?: no where the whole interval of the adaptive accuracy lies above chance, one over the "
    "number of classes, else yes; empty where no attack knew the purifier.",
)


def defences(predictions: Results) -> Cells:
    """Tables 1 and 2: rows are attack and defence, columns accuracy, adaptive and BROKEN?.

    `accuracy` in % is the paper's, under an attacker who does not know the purifier; clean accuracy
    stands in rows of its own. Which entries have the printed names is told by `Defences`.
    """
    found = Defences(predictions)

    def label(about: dict) -> tuple[str, str]:
        place = found.place(about)
        return f"{place.attack} / {place.defence}", ADAPTIVE if place.adaptive else OBLIVIOUS

    cells = [
        replace(cell, about=cell.about | {"network": found.network(cell.about)})
        for cell in accuracy(predictions, label)
    ]
    known = [cell for cell in cells if cell.column == ADAPTIVE]
    known += [
        replace(cell, column=ADAPTIVE)
        for cell in cells
        if found.is_plain_classifier(cell.about) and cell.about["threat"] != CLEAN
    ]
    level = chance(predictions)
    broken = [
        _broken(cell, 100 * level[cell.about["dataset"], cell.about["split"]]) for cell in known
    ]
    oblivious = [cell for cell in cells if cell.column == OBLIVIOUS]
    return Cells([*oblivious, *known, *broken], [*_NOTES, *found.notes()])


def architecture(calibration: list[Path]) -> Cells:
    """Figure 4 as a table: layers of the autoencoders, read from the networks."""
    return layers.architecture(calibration)


def _broken(cell: Cell, chance: float) -> Cell:
    """Whether a defence falls to chance, as far as the images can tell."""
    broken = cell.estimate.low <= chance
    estimate = Estimate(float(broken), math.nan, math.nan, cell.estimate.n)
    return Cell(cell.row, BROKEN, "broken", YES_NO, estimate, about=cell.about)
