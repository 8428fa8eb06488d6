"""A table as a list of cells, each with its place, its interval and the names of its results."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from advdenoise.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

YES_NO = "yes/no"


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    `row` and `column` are the printed labels, `unit` is % or the measure's own (YES_NO where 1 is
    shown as yes and 0 as no), `spread` the standard deviation between replicates (NaN for one),
    `about` the names of the group of results that it is computed from. A `text`, such as a
    network's name, replaces the number. `flags` are the reasons to doubt it, by severity.
    """

    row: str
    column: str
    metric: str
    unit: str
    estimate: Estimate
    spread: float = float("nan")
    about: dict = field(default_factory=dict)
    text: str = ""
    flags: str = ""


class Cells(list[Cell]):
    """The cells of a table and its notes, sentences below it.

    `printed` are the published lines by row and column, where the paper has other rows and columns.
    """

    def __init__(
        self, cells: Iterable[Cell], notes: Iterable[str] = (), printed: dict | None = None
    ):
        super().__init__(cells)
        self.notes = tuple(notes)
        self.printed = printed


class Rows(NamedTuple):
    """A table too long to print: rows for programs, one Parquet file instead of a table's files."""

    frame: "pd.DataFrame"
