"""Distances layer by layer as curves."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from scripts.advdenoise.components import suggest
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._measures import distance
from scripts.advdenoise.tables._read import Results

_MEASURES = {"ne_d": "NE-D (by n)", "ne_d_sqrt": "NE-D (by the root of n)", "cos_d": "COS-D"}


def curves(distances: Results, *, measure: str) -> Figure:
    """Mean distance over the layer's index, one panel per classifier and purifier (Figs. 2, 3).

    Bands are 95 % intervals over images. `measure` is ne_d, ne_d_sqrt or cos_d.
    """
    if measure not in _MEASURES:
        raise BadInput(f"figures: measure {measure!r} is unknown; {suggest(measure, _MEASURES)}")
    cells = distance(distances, measure, lambda about: ("", ""))
    panels: dict = {}
    for cell in cells:
        about = cell.about
        panel = f"{about['dataset']}, {about['classifier']}, {about['purifier']}"
        curve = _labels.threat(about["threat"], about["attack_point"], about["classifier"])
        panels.setdefault(panel, {}).setdefault(curve, []).append((about, cell.estimate))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4 * len(panels), 3.2), squeeze=False, sharey=True
    )
    for axis, (title, named) in zip(axes[0], panels.items(), strict=True):
        for name, points in named.items():
            _curve(axis, name, points)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("layer")
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel(_MEASURES[measure])
    return figure


def _curve(axis, name: str, points: list) -> None:
    points = sorted(points, key=lambda point: point[0]["layer_index"])
    places = [about["layer_index"] + 1 for about, _ in points]
    axis.plot(places, [e.value for _, e in points], marker="o", markersize=3, label=name)
    axis.fill_between(places, [e.low for _, e in points], [e.high for _, e in points], alpha=0.2)
    axis.set_xticks(places)
