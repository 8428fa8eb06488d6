"""A table as a list of cells: what is printed where, with its interval and where it comes from."""

from dataclasses import dataclass, field

from scripts.advdenoise.statistics import Estimate


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    `row` and `column` are the printed labels, `unit` is % or the measure's own, `spread` the
    standard deviation between replicates (NaN for one), `about` the names that it comes from.
    """

    row: str
    column: str
    metric: str
    unit: str
    estimate: Estimate
    spread: float = float("nan")
    about: dict = field(default_factory=dict)
