"""The values that jobs chose for settings, with the measures of every candidate."""

from pathlib import Path

from advdenoise.graph.choices import published_number
from advdenoise.reporting.cells import YES_NO, Cell, Cells
from advdenoise.reporting.labels import USUAL, Labels, with_point
from advdenoise.reporting.read import read_values
from advdenoise.statistics import Estimate, wilson

CHOSEN, MSE = "chosen", "MSE"
UNITS = {MSE: "pixel^2"}  # of other measures %
ACCURACIES = ("clean accuracy", "robust accuracy")  # of single images, 0 or 1


def candidates(chosen: list[Path], labels: Labels = USUAL) -> Cells:
    """A row for each candidate of each setting: its measures, and whether it was chosen.

    Intervals are over images: Wilson's of accuracies, else 1.96 standard errors to either side, of
    the mean of two accuracies within 0 and 100 %. The published value that a setting was chosen by
    stands beside the chosen candidate. A note says if the first or the last candidate was chosen.
    """
    cells, notes, printed = [], [], {}
    for value, settings in read_values(chosen):
        for choice in value["choices"]:
            about = {
                "dataset": settings["dataset"],
                "split": settings["split"],
                "seed": settings["seed"],
                "entry": value["entry"],
                "classifier": value["classifier"],
                "point": choice["point"],
            }
            name = _name(settings, choice, labels)
            for candidate in choice["candidates"]:
                row = f"{name}, {choice['setting']} {_shown(candidate['value'])}"
                cells += _cells(row, candidate, choice, about)
                wanted = choice["by"].get("mse")
                if candidate["value"] == choice["value"] and isinstance(wanted, dict):
                    printed[row, MSE] = published_number(wanted)
            notes += _notes(name, choice)
    return Cells(cells, notes, printed)


def _name(settings: dict, choice: dict, labels: Labels) -> str:
    """A set's printed name or the entry's own, with data set, classifier and replicate."""
    printed = None
    if settings["kind"] == "attacks":
        threat, point = settings["threat"], choice["point"]
        printed = labels.adversarial_set(settings["attack"], threat, point)
    own = printed or with_point(settings["entry"], choice["point"])
    where = f"{settings['dataset']}, {settings['victim']['name']}"
    return f"{own} ({where}, seed {settings['seed']})"


def _cells(row: str, candidate: dict, choice: dict, about: dict) -> list[Cell]:
    cells = []
    for name, measured in candidate["measures"].items():
        count, unit = measured["images"], UNITS.get(name, "%")
        cells.append(Cell(row, name, name, unit, _estimate(name, measured), about=about))
    is_chosen = Estimate.without_interval(candidate["value"] == choice["value"], count)
    return [*cells, Cell(row, CHOSEN, CHOSEN, YES_NO, is_chosen, about=about)]


def _estimate(name: str, measured: dict) -> Estimate:
    """The mean of a measure over images with its interval, accuracies in %."""
    mean, count = measured["mean"], measured["images"]
    half = 1.96 * measured["deviation"] / count**0.5
    if name in UNITS:
        return Estimate(mean, mean - half, mean + half, count)
    low, high = max(mean - half, 0.0), min(mean + half, 1.0)
    if name in ACCURACIES:
        _, low, high, _ = wilson(mean * count, count)
    return Estimate(100 * mean, 100 * low, 100 * high, count)


def _notes(name: str, choice: dict) -> list[str]:
    values = [candidate["value"] for candidate in choice["candidates"]]
    setting, value = choice["setting"], choice["value"]
    text = f"{name}: {setting} {_shown(value)}"
    (best,) = (c for c in choice["candidates"] if c["value"] == value)
    if choice["wanted"] is not None:
        mean = best["measures"][MSE]["mean"]
        text += f" gives {mean:.3f} pixel^2, asked for was {choice['wanted']:.3f}"
    if value in (values[0], values[-1]):
        text += f"; it is the {'first' if value == values[0] else 'last'} that was tried"
    return [f"{text}."]


def _shown(value) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
