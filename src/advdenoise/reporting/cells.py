"""A table as a list of cells: what is printed where, with its interval and where it comes from."""

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
    `about` the names that it comes from. A `text`, such as a network's name, stands in the number's
    place.
    """

    row: str
    column: str
    metric: str
    unit: str
    estimate: Estimate
    spread: float = float("nan")
    about: dict = field(default_factory=dict)
    text: str = ""


class Cells(list[Cell]):
    """The cells of a table with notes of its own, sentences that are told below it.

    `printed` are the paper's lines by row and column where it has no rows and columns of ours.
    """

    def __init__(
        self, cells: Iterable[Cell], notes: Iterable[str] = (), printed: dict | None = None
    ):
        super().__init__(cells)
        self.notes = tuple(notes)
        self.printed = printed


class Rows(NamedTuple):
    """What is too long to print: rows for programs, one Parquet in the place of a table's files."""

    frame: "pd.DataFrame"
