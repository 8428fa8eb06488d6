"""What stands above a table or a figure: what it shows, of which images, networks and budgets."""

import inspect
import math
import re
from collections.abc import Iterable
from pathlib import Path

from scripts.advdenoise import store
from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import YES_NO, Cell
from scripts.advdenoise.tables._read import Results

_MANY = 5  # more names than these are counted
_PREFIX = re.compile(r"^((Tables?|Figures?) \d[\w, ]*?|The appendix)( as data)?: ")
_UNITS = {"%": "%", "fraction": "[0,1]", "AUC": "[0,1]"}
_NO_UNITS = ("", YES_NO, "text", "name", "count", "segments")


def title(paper: str, table: str, function, read: dict, cells: Iterable = ()) -> str:
    """A table's title: its paper and number, its function's first sentence, and what it is of.

    `read` are the results that the function was handed, `cells` what it made of them.
    """
    number = re.sub(r"^(table|figure)(\d+)$", r"\1 \2", table)
    facts = "; ".join([*of_what(read.values()), *_of_cells(cells)])
    head = f"{_labels.PAPERS.get(paper, paper)}, {number}"
    return f"{head}: {_sentence(function)}" + (f" ({facts})" if facts else "")


def of_what(results: Iterable) -> list[str]:
    """Data sets, classifiers and budgets of results, which may be the paths of their files."""
    datasets: dict[str, None] = {}
    classifiers: dict[str, None] = {}
    budgets: set[float] = set()
    holders = _labels.Holders()

    def network(entry: dict) -> str:
        return holders.name(_labels.classifier(entry), entry["name"], entry["name"])

    for result in results:
        if isinstance(result, Results):
            frame = result.frame
            datasets |= dict.fromkeys(map(_labels.dataset, frame["dataset"].unique()))
            if "classifier" in frame:
                entries = [result.entry("classifier", n) for n in frame["classifier"].unique()]
                classifiers |= dict.fromkeys(network(entry) for entry in entries)
            if "epsilon" in frame:
                budgets |= {round(float(x), 7) for x in frame["epsilon"].dropna().unique()}
            continue
        for settings in map(_settings, result):
            datasets[_labels.dataset(settings["dataset"])] = None
            if "classifier" in settings:
                classifiers[network(settings["classifier"])] = None
    parts = [_listed(datasets, "data sets"), _listed(classifiers, "classifiers")]
    if budgets:
        ends = [budget(value) for value in (min(budgets), max(budgets))]
        parts.append("epsilon = " + " to ".join(dict.fromkeys(ends)))
    return [part for part in parts if part]


def budget(value: float) -> str:
    """A budget in pixels of [0,1], as a multiple of 1/255 where it is one that no decimal is."""
    levels = 255 * value
    if round(value, 2) != round(value, 5) and math.isclose(levels, round(levels), abs_tol=1e-3):
        return f"{round(levels)}/255"
    return f"{value:.3g}"


def _settings(path: Path) -> dict:
    return store.read_provenance(path)["settings"]


def _listed(names: dict[str, None], kind: str) -> str:
    return ", ".join(names) if len(names) <= _MANY else f"{len(names)} {kind}"


def _sentence(function) -> str:
    """The first sentence of what a function says of itself, without a number of its own."""
    text = inspect.getdoc(getattr(function, "func", function)) or ""
    first = _PREFIX.sub("", text.partition("\n")[0]).rstrip(".")
    return first[:1].lower() + first[1:] if first[1:2].islower() else first


def _of_cells(cells: Iterable) -> list[str]:
    """How many images, and the units of all measures."""
    cells = [cell for cell in cells if isinstance(cell, Cell)]
    counts = {cell.estimate.n for cell in cells if not math.isnan(cell.estimate.low)}
    parts = []
    if counts:
        parts.append("n = " + " to ".join(map(str, dict.fromkeys((min(counts), max(counts))))))
    units: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.unit not in _NO_UNITS:
            metric = re.sub(r"\b(clean|robust) accuracy$", "accuracy", cell.metric)
            units.setdefault(_UNITS.get(cell.unit, cell.unit), {})[metric] = None
    parts += [f"{', '.join(metrics)} in {unit}" for unit, metrics in units.items()]
    return parts
