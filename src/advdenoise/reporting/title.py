"""The title of a table: its contents, images, networks and budgets."""

import inspect
import math
import re
from collections.abc import Iterable

from advdenoise.reporting.cells import YES_NO, Cell
from advdenoise.reporting.labels import USUAL, Labels
from advdenoise.reporting.subject import describe

_PREFIX = re.compile(r"^((Tables?|Figures?) \d[\w, ]*?|The appendix)( as data)?: ")
_UNITS = {"%": "%", "fraction": "[0,1]", "AUC": "[0,1]"}
_NO_UNITS = ("", YES_NO, "text", "name", "count", "segments")


def title(
    experiment: str, table: str, function, read: dict, cells: Iterable = (), labels: Labels = USUAL
) -> str:
    """A table's title: its experiment, number, function's first sentence, and results.

    `read` are the results that the function was handed, `cells` what it made of them.
    """
    number = re.sub(r"^(table|figure)(\d+)$", r"\1 \2", table)
    facts = "; ".join([*describe(read.values(), labels), *_of_cells(cells)])
    head = f"{labels.paper or experiment}, {number}"
    return f"{head}: {_sentence(function)}" + (f" ({facts})" if facts else "")


def _sentence(function) -> str:
    """The first sentence of a function's docstring, without the number of a table."""
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
