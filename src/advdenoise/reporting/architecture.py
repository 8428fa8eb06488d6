"""Layers of denoisers as a table, read from the networks."""

from collections.abc import Callable, Iterable
from pathlib import Path

from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.points import shown, with_defaults
from advdenoise.reporting.read import read_values
from advdenoise.statistics import Estimate

# In the order of the columns of Table 1 of Kalaria et al. 2022.
SIZES = ("kernel", "stride", "padding", "filters")

# From a layer to the columns and the published lines that stand beside it.
Printed = Callable[[dict], Iterable[tuple[str, dict]]]


def architecture(calibration: list[Path], printed_of: Printed = lambda layer: ()) -> Cells:
    """Layers of the denoisers with kernel, stride, padding, filters and parameters.

    Equal layers in a row are one line, which counts them. A note for each denoiser has its settings
    and the number of its parameters.
    """
    networks: dict[tuple, tuple] = {}
    notes = []
    for value, settings in read_values(calibration):
        about = {"dataset": settings["dataset"], "denoiser": settings["denoiser"]["name"]}
        networks.setdefault(tuple(about.values()), (about, value, settings["denoiser"]))
    cells = []
    printed: dict = {}
    for about, value, entry in networks.values():
        prefix = f"{about['dataset']}, {about['denoiser']}: " if len(networks) > 1 else ""
        for first, count, layer in _runs(value["layers"]):
            span = str(first) if count == 1 else f"{first}-{first + count - 1}"
            row = f"{prefix}{span} {layer['layer']}"
            numbers = {"layers": count, **{name: layer[name] for name in SIZES}}
            numbers["parameters"] = count * layer["parameters"]
            for name, number in numbers.items():
                if number is not None:
                    estimate = Estimate.without_interval(number)
                    cells.append(Cell(row, name, name, "count", estimate, about=about))
            printed |= {(row, name): line for name, line in printed_of(layer)}
        total = sum(layer["parameters"] for layer in value["layers"])
        point = with_defaults("denoisers", entry)
        text = shown(point, list(point["settings"]))
        with_settings = f", {text}" if text else ""
        notes.append(f"{prefix}{entry['function']}{with_settings}: {total:,} parameters.")
    return Cells(cells, notes, printed)


def _runs(layers: list[dict]) -> list[tuple[int, int, dict]]:
    """Number of the first, count and description of equal layers in a row."""
    runs: list[tuple[int, int, dict]] = []
    for number, layer in enumerate(layers, start=1):
        if runs and runs[-1][2] == layer:
            first, count, _ = runs.pop()
            runs.append((first, count + 1, layer))
        else:
            runs.append((number, 1, layer))
    return runs
