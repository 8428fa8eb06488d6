"""Our cells have the papers' printed numbers beside them; one misspelt label leaves them apart.

Each experiment's tests call these with its own tables, and with what the paper does not print.
"""

import csv
import re
from pathlib import Path

from advdenoise.calls import call_with
from advdenoise.graph.sources import load
from advdenoise.graph.yaml_files import read_files
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.read import read_stage
from tests.fake_results import Results

REPOSITORY = Path(__file__).parents[2]


def published(experiment: str) -> Published:
    return Published(REPOSITORY / "experiments" / experiment / "published")


def tables(experiment: str) -> list[str]:
    """The tables of an experiment at the papers' scale that have printed numbers."""
    config = read_files(REPOSITORY / "config" / "papers.yaml")
    result = config["experiments"][experiment]["tables"]
    return [name for name in result if (published(experiment).folder / f"{name}.csv").exists()]


def cells_of(experiment: str, root: Path):
    """A function that gives a table's cells at the papers' scale, of results with random rows."""
    config = {**read_files(REPOSITORY / "config" / "papers.yaml"), "seeds": [0]}
    config["detection"] = {**config["detection"], "split_seeds": 1}
    results = Results(root, config)

    def cells(table: str):
        inputs = results.inputs("tables", experiment, table)
        entry = results.flow.config["experiments"][experiment]["tables"][table]
        return call_with(
            load("tables", entry), **{stage: read_stage(stage, f) for stage, f in inputs.items()}
        )

    return cells


def check_numbers(experiment: str, table: str, cells, without: str = "(?!)") -> None:
    """Every printed number has just one cell, of its unit and data set.

    `without` matches `row | column` of those that have none.
    """
    printed = published(experiment).numbers(table)
    beside: dict = {}
    for cell in cells:
        line = printed.get((cell.row, cell.column))
        if line:
            assert (cell.row, cell.column) not in beside, "two cells claim one printed number"
            beside[cell.row, cell.column] = cell
            assert line["unit"] == cell.unit
            # The size of a network belongs to no data set.
            assert line["dataset"] in ("", labels.DATASETS[cell.about["dataset"]])
            assert cell.text or float(line["value"]) >= 0
    assert beside
    apart = [f"{row} | {column}" for row, column in printed.keys() - beside.keys()]
    assert not [place for place in apart if not re.search(without, place)]


def check_own_names(experiment: str, table: str, cells, allowed: str) -> None:
    """What no printed label claims stands under its own name, which `allowed` matches."""
    printed = published(experiment).numbers(table)
    for row, column in {(cell.row, cell.column) for cell in cells} - printed.keys():
        assert re.search(allowed, f"{row} | {column}"), (row, column, sorted(printed))


def columns(experiment: str) -> dict[str, set]:
    """What the columns of an experiment's published tables hold."""
    result: dict[str, set] = {}
    for path in published(experiment).folder.glob("table*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                for name, value in line.items():
                    result.setdefault(name, set()).add(value)
    return result
