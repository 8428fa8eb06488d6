"""A table of the small configuration's own, in a file beside it."""

import math

from advdenoise.reporting.cells import Cell
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate


def seconds(cost: Results) -> list[Cell]:
    """Seconds for superpixels, by attribution and representation."""
    cells = []
    names = ["attribution_point", "representation"]
    for (point, representation), rows in cost.frame.groupby(names, sort=False, observed=True):
        estimate = Estimate(rows["segmentation_seconds"].median(), math.nan, math.nan, len(rows))
        about = {"dataset": rows["dataset"].iloc[0]}
        cells.append(Cell(point, representation, "seconds", "s", estimate, about=about))
    return cells
