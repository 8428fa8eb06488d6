"""The papers' own numbers, as the tables in config/published have them."""

import csv
from pathlib import Path

PUBLISHED = Path(__file__).parents[3] / "config" / "published"


def names() -> list[str]:
    """The tables that there are, as paper_table."""
    return sorted(path.stem for path in PUBLISHED.glob("*.csv"))


def lines(name: str) -> list[dict]:
    """The numbers of a table, a line each; none where there is no such table."""
    path = PUBLISHED / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
