"""Distances layer by layer as curves, and what they have to do with accuracy and detection."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from scripts.advdenoise.components import suggest
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.tables._explorer import at_last_layer, joined
from scripts.advdenoise.tables._measures import distance
from scripts.advdenoise.tables._propagation import NONE, Places
from scripts.advdenoise.tables._read import Results
from scripts.advdenoise.threats import CLEAN

if TYPE_CHECKING:
    import pandas as pd

_MEASURES = {"ne_d": "NE-D (by n)", "ne_d_sqrt": "NE-D (by the root of n)", "cos_d": "COS-D"}
_MARKERS = "osD^vP*X<>"


def curves(distances: Results, *, measure: str | list[str]) -> Figure:
    """Mean distance over the layer's index (Figs. 2, 3; with two measures Figs. 5, 6).

    A row of panels for each classifier and measure, a column for each denoiser, a curve for each
    set; bands are 95 % intervals over images. Measures are ne_d, ne_d_sqrt and cos_d.
    """
    measures = [measure] if isinstance(measure, str) else measure
    for name in measures:
        if name not in _MEASURES:
            raise BadInput(f"figures: measure {name!r} is unknown; {suggest(name, _MEASURES)}")
    places = Places(distances)
    several = distances.frame["dataset"].nunique() > 1
    panels: dict[tuple, dict[str, dict]] = {}
    for name in measures:
        for cell in distance(distances, name, lambda about: ("", "")):
            about = cell.about
            if about["threat"] == CLEAN and places.setting(about) == NONE:
                continue  # the image itself
            network = f"{about['dataset']}, " * several + places.network(about)
            row = panels.setdefault((network, name), {})
            named = row.setdefault(places.setting(about), {})
            named.setdefault(places.adversarial_set(about), []).append((about, cell.estimate))
    settings = list(dict.fromkeys(setting for row in panels.values() for setting in row))
    size = (4 * len(settings), 3.2 * len(panels))
    figure, axes = plt.subplots(
        len(panels), len(settings), figsize=size, squeeze=False, sharey="row", layout="constrained"
    )
    for line, ((network, name), row) in zip(axes, panels.items(), strict=True):
        for axis, setting in zip(line, settings, strict=True):
            for set_, points in row.get(setting, {}).items():
                _curve(axis, set_, points)
            axis.set_title(f"{network} {setting}", fontsize=9)
            axis.set_xlabel("layer")
        line[0].set_ylabel(_MEASURES[name])
        line[0].legend(fontsize=7)
    return figure


def explorer(
    distances: Results,
    predictions: Results,
    detection: Results | None = None,
    *,
    classifier: str,
    protocol: str = "grouped",
    representation: str = "probabilities",
) -> Figure:
    """NE-D and COS-D of a classifier's last layer against accuracy and detectors' scores.

    A point for each threat and purifier, coloured by the threat and marked by the purifier: means
    over the images that have both, with 95 % intervals. Detectors look at what is not purified yet.
    """
    frame = joined(distances, predictions, detection, protocol, representation)
    found = at_last_layer(frame[frame["classifier"] == classifier])
    if found.empty:
        raise BadInput(
            f"figures: there are no distances of classifier {classifier!r}; "
            f"{suggest(classifier, {*frame['classifier']})}"
        )
    told = {"right": "accuracy"}
    told |= {name: name for name in found["quantity"].unique() if name.startswith("score ")}
    figure, axes = plt.subplots(
        len(told), 2, figsize=(10, 3.6 * len(told)), squeeze=False, layout="constrained"
    )
    for line, (quantity, printed) in zip(axes, told.items(), strict=True):
        for axis, measure in zip(line, ("ne_d", "cos_d"), strict=True):
            _points(axis, found, measure, quantity)
            axis.set_xlabel(f"{_MEASURES[measure]} at the last layer")
            axis.set_ylabel(printed)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside right upper")
    figure.suptitle(", ".join([*found["dataset"].unique(), classifier]))
    return figure


def _curve(axis, name: str, points: list) -> None:
    points = sorted(points, key=lambda point: point[0]["layer_index"])
    places = [about["layer_index"] + 1 for about, _ in points]
    axis.plot(places, [e.value for _, e in points], marker="o", markersize=3, label=name)
    axis.fill_between(places, [e.low for _, e in points], [e.high for _, e in points], alpha=0.2)
    axis.set_xticks(places)


def _points(axis, found: "pd.DataFrame", measure: str, quantity: str) -> None:
    """Each group's mean distance against its mean of another quantity, where it has one."""
    threats, purifiers = (list(dict.fromkeys(found[name])) for name in ("threat", "purifier"))
    groups = found.pivot(index=["threat", "purifier"], columns="quantity", values="estimate")
    for (threat, purifier), estimates in groups.iterrows():
        x, y = estimates[measure], estimates.get(quantity)
        if not isinstance(y, tuple):  # no image has both
            continue
        axis.errorbar(
            x.value,
            y.value,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=[[y.value - y.low], [y.high - y.value]],
            fmt=_MARKERS[purifiers.index(purifier) % len(_MARKERS)],
            color=f"C{threats.index(threat) % 10}",
            markersize=4,
            linewidth=0.7,
            label=f"{threat}, {purifier}",
        )
