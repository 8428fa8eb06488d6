"""The data sets, networks and budgets of results, in words, for titles of tables and figures."""

import math
from collections.abc import Iterable
from pathlib import Path

from advdenoise.io.provenance import read_provenance
from advdenoise.reporting import labels
from advdenoise.reporting.labels import USUAL, Labels
from advdenoise.reporting.read import Results

_MANY = 5  # names; of more the number is given


def describe(results: Iterable, printed: Labels = USUAL) -> list[str]:
    """Data sets, classifiers and budgets of results, which may be the paths of their files.

    `printed` gives the names of classifiers.
    """
    datasets: dict[str, None] = {}
    classifiers: dict[str, None] = {}
    budgets: set[float] = set()
    assignment = labels.LabelAssignment()

    def network(entry: dict) -> str:
        return assignment.assign(printed.classifier(entry), entry["name"], entry["name"])

    for result in results:
        if isinstance(result, Results):
            frame = result.frame
            datasets |= dict.fromkeys(map(labels.dataset, frame["dataset"].unique()))
            if "classifier" in frame:
                entries = [result.entry("classifier", n) for n in frame["classifier"].unique()]
                classifiers |= dict.fromkeys(network(entry) for entry in entries)
            if "epsilon" in frame:
                budgets |= {round(float(x), 7) for x in frame["epsilon"].dropna().unique()}
            continue
        for settings in map(_settings, result):
            datasets[labels.dataset(settings["dataset"])] = None
            if "classifier" in settings:
                classifiers[network(settings["classifier"])] = None
    parts = [_listed(datasets, "data sets"), _listed(classifiers, "classifiers")]
    if budgets:
        ends = [budget(value) for value in (min(budgets), max(budgets))]
        parts.append("epsilon = " + " to ".join(dict.fromkeys(ends)))
    return [part for part in parts if part]


def budget(value: float) -> str:
    """A budget in pixels of [0,1]; a multiple of 1/255 unless it has a short decimal form."""
    levels = 255 * value
    if round(value, 2) != round(value, 5) and math.isclose(levels, round(levels), abs_tol=1e-3):
        return f"{round(levels)}/255"
    return f"{value:.3g}"


def _settings(path: Path) -> dict:
    return read_provenance(path)["settings"]


def _listed(names: dict[str, None], kind: str) -> str:
    return ", ".join(names) if len(names) <= _MANY else f"{len(names)} {kind}"
