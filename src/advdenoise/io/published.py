"""Published numbers, as the CSV files of a folder have them."""

import csv
from pathlib import Path
from typing import NamedTuple

_SPELLINGS = {"ImageNet-1000": "ImageNet"}  # one data set under two names


class Published(NamedTuple):
    """A folder of published numbers, a CSV file for each table."""

    folder: Path

    def lines(self, table: str) -> list[dict]:
        """The numbers of a table, a mapping for each line; none where there is no such table."""
        path = self.folder / f"{table}.csv"
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        for line in lines:
            name = line.get("dataset", "")
            line["dataset"] = _SPELLINGS.get(name, name)
        return lines

    def numbers(self, table: str) -> dict[tuple[str, str], dict]:
        """The lines of a table by printed row and column."""
        return {(line["row"], line["column"]): line for line in self.lines(table)}
