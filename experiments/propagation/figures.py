"""Distances layer by layer as curves, and what they have to do with accuracy and detection."""

from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from advdenoise import statistics
from advdenoise.errors import BadInput, suggest
from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.explorer import join_results
from advdenoise.reporting.measures import distance
from advdenoise.reporting.palette import GREY, Styles
from advdenoise.reporting.read import Results, iter_groups

from .labels import LABELS
from .results import NONE, SETS, LabelAssignment

_MEASURES = {
    "ne_d": "NE-D (by n)",
    "ne_d_sqrt": "NE-D (by the root of n)",
    "cos_d": "COS-D",
    "ne_d_raw": "NE-D (by n), before ReLU",
    "cos_d_raw": "COS-D, before ReLU",
}
_COLUMNS = ["dataset", "classifier", "set", "setting", "quantity", "estimate"]
_GROUP = ("threat", "attack_point", "purifier", "purifier_point")
_MARKER = 5  # its size, in points
_APART = 0.06  # from curve to curve, in layers
# How a denoiser's points are filled, in the order of the denoisers; the first is without one.
_FILLS = ("full", "none", "left", "bottom", "right", "top")


class _Panel(NamedTuple):
    """The curves of one network, measure and denoiser, by set."""

    network: str
    measure: str
    setting: str
    curves: dict[str, list[Cell]]


def curves(
    distances: Results,
    styles: Styles | None = None,
    *,
    measure: Literal["ne_d", "ne_d_sqrt", "cos_d", "ne_d_raw", "cos_d_raw"]
    | list[Literal["ne_d", "ne_d_sqrt", "cos_d", "ne_d_raw", "cos_d_raw"]],
) -> Figure:
    """Mean distance layer by layer (Figs. 2, 3; with two measures Figs. 5, 6).

    A row of panels for each classifier and measure, a column for each denoiser, a curve for each
    set; bars are 95 % intervals over images. Measures are ne_d, ne_d_sqrt and cos_d,
    of maps after ReLU, ne_d_raw and cos_d_raw, of maps as modules give them.
    """
    measures = [measure] if isinstance(measure, str) else measure
    for name in measures:
        if name not in _MEASURES:
            raise BadInput(f"figures: measure {name!r} is unknown; {suggest(name, _MEASURES)}")
    styles = styles or Styles(LABELS.sets.values())
    panels = _panels(distances, measures)
    rows = list(dict.fromkeys((panel.network, panel.measure) for panel in panels))
    # The results may stand in any order: without a denoiser first, sets as the paper prints them.
    columns = sorted(dict.fromkeys(panel.setting for panel in panels), key=lambda s: s != NONE)
    names = sorted(dict.fromkeys(name for panel in panels for name in panel.curves), key=_rank)
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(4 * len(columns), 3.2 * len(rows)),
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for panel in panels:
        row = rows.index((panel.network, panel.measure))
        axis = axes[row][columns.index(panel.setting)]
        axis.set_visible(True)
        axis.set_title(f"{panel.network} {panel.setting}", fontsize=9)
        axis.set_xlabel("layer")
        axis.set_ylabel(_MEASURES[panel.measure])
        for name, cells in panel.curves.items():
            shift = _APART * (names.index(name) - (len(names) - 1) / 2)
            _curve(axis, name, cells, styles, shift)
    figure.legend(
        handles=[_handle(name, styles, linestyle="-") for name in names],
        title=f"{_where(distances.frame)}; bars: 95 % intervals over images",
        title_fontsize=9,
        fontsize=8,
        ncols=max(len(names), 1),
        loc="outside upper center",
    )
    return figure


def explorer(
    distances: Results,
    predictions: Results,
    detection: Results | None = None,
    styles: Styles | None = None,
    *,
    classifier: str,
    protocol: Literal["paper", "grouped"] = "grouped",
    representation: Literal["predicted", "probabilities", "hidden"] = "probabilities",
) -> Figure:
    """NE-D and COS-D of a classifier's last layer against accuracy and detectors' scores.

    A point for each set and denoiser, coloured and marked by the set and filled by the denoiser:
    means over the images that have both, with 95 % intervals. Detectors get images that are not
    purified yet.
    """
    styles = styles or Styles(LABELS.sets.values())
    frame = join_results(distances, predictions, detection, protocol, representation)
    of_one = frame[frame["classifier"] == classifier]
    means = _at_last_layer(of_one, LabelAssignment(distances))
    if means.empty:
        raise BadInput(
            f"figures: there are no distances of classifier {classifier!r}; "
            f"{suggest(classifier, {*frame['classifier']})}"
        )
    quantities = {"right": "accuracy in [0,1]"}
    quantities |= {name: name for name in means["quantity"].unique() if name.startswith("score ")}
    figure, axes = plt.subplots(
        len(quantities), 2, figsize=(10, 3.6 * len(quantities)), squeeze=False, layout="constrained"
    )
    settings = sorted(dict.fromkeys(means["setting"]), key=lambda s: s != NONE)
    fills = {name: _FILLS[place % len(_FILLS)] for place, name in enumerate(settings)}
    for line, (quantity, printed) in zip(axes, quantities.items(), strict=True):
        for axis, measure in zip(line, ("ne_d", "cos_d"), strict=True):
            _points(axis, means, measure, quantity, styles, fills)
            axis.set_xlabel(f"{_MEASURES[measure]} at the last layer")
            axis.set_ylabel(printed)
    sets = [_handle(name, styles) for name in sorted(dict.fromkeys(means["set"]), key=_rank)]
    denoisers = [
        Line2D([], [], color=GREY, marker="o", linestyle="", fillstyle=fill, label=name)
        for name, fill in fills.items()
    ]
    figure.legend(handles=sets, title="set", fontsize=8, loc="outside right upper")
    figure.legend(handles=denoisers, title="denoiser", fontsize=8, loc="outside right lower")
    network = LabelAssignment(distances).network(of_one.iloc[0].to_dict())
    figure.suptitle(f"{network}, {_where(of_one)}; bars: 95 % intervals over images", fontsize=9)
    return figure


def _panels(distances: Results, measures: list[str]) -> list[_Panel]:
    """In the order of the results; the clean image itself, which is at no distance, left out."""
    labeler = LabelAssignment(distances)
    several = distances.frame["dataset"].nunique() > 1
    panels: dict[tuple, _Panel] = {}
    for name in measures:
        for cell in distance(distances, name, lambda about: ("", "")):
            about = cell.about
            if about["threat"] == CLEAN and labeler.setting(about) == NONE:
                continue
            network = f"{labels.dataset(about['dataset'])}, " * several + labeler.network(about)
            key = (network, name, labeler.setting(about))
            panel = panels.setdefault(key, _Panel(*key, {}))
            panel.curves.setdefault(labeler.adversarial_set(about), []).append(cell)
    return list(panels.values())


def _rank(name: str) -> int:
    """Sorts the paper's sets as printed, then others as they come, and clean images last."""
    others = len(SETS)
    if name == CLEAN:
        return others + 1
    return SETS.index(name) if name in SETS else others


def _where(frame: pd.DataFrame) -> str:
    """Data sets and how many images of them."""
    names = [labels.dataset(name) for name in frame["dataset"].unique()]
    return f"{', '.join(names)}, n = {frame['id'].nunique()}"


def _handle(name: str, styles: Styles, linestyle: str = "") -> Line2D:
    style = styles.of(name)
    return Line2D(
        [],
        [],
        color=style.colour,
        marker=style.marker,
        markersize=_MARKER,
        linestyle=linestyle,
        label=name,
    )


def _curve(axis: Axes, name: str, cells: list[Cell], styles: Styles, shift: float) -> None:
    """`shift` is how far its points stand beside their layers, so that bars do not hide others."""
    cells = sorted(cells, key=lambda cell: cell.about["layer_index"])
    numbers = [cell.about["layer_index"] + 1 for cell in cells]
    estimates = [cell.estimate for cell in cells]
    style = styles.of(name)
    axis.errorbar(
        [number + shift for number in numbers],
        [e.value for e in estimates],
        [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]],
        color=style.colour,
        marker=style.marker,
        markersize=_MARKER,
        linewidth=1,
        elinewidth=0.6,
        capsize=1.5,
        label=name,
    )
    layers = [cell.about["layer"].removeprefix("layers.") for cell in cells]
    ticks = [f"{number} {layer}" for number, layer in zip(numbers, layers, strict=True)]
    axis.set_xticks(numbers, ticks, rotation=60, ha="right", rotation_mode="anchor", fontsize=6)


def _at_last_layer(frame: pd.DataFrame, labeler: LabelAssignment) -> pd.DataFrame:
    """Means over images at each classifier's last layer, a row for each group and quantity.

    Columns are dataset, classifier, the printed names of the adversarial `set` and of the `setting`
    (the denoiser), quantity, which is a distance, `right` or a score, and estimate.
    """
    ends = frame.groupby(["dataset", "classifier"])["layer_index"].transform("max")
    last = frame[frame["layer_index"] == ends]
    scores = [name for name in frame if name.startswith("score ")]
    estimates = []
    for group, rows in iter_groups(last, ["dataset", "classifier", *_GROUP]):
        about = {
            "dataset": group["dataset"],
            "classifier": group["classifier"],
            "set": labeler.adversarial_set(group),
            "setting": labeler.setting(group),
        }
        for quantity in ("ne_d", "cos_d", "right", *scores):
            known = rows[[quantity, "id"]].dropna()
            if len(known):
                estimate = statistics.bootstrap_mean(*(known[name].to_numpy() for name in known))
                estimates.append(about | {"quantity": quantity, "estimate": estimate})
    return pd.DataFrame(estimates, columns=_COLUMNS)


def _points(
    axis: Axes,
    means: pd.DataFrame,
    measure: str,
    quantity: str,
    styles: Styles,
    fills: dict[str, str],
) -> None:
    """Each group's mean distance against its mean of another quantity, where it has one."""
    groups = means.pivot(index=["dataset", "set", "setting"], columns="quantity", values="estimate")
    for (_, set_, setting), estimates in groups.iterrows():
        x, y = estimates[measure], estimates.get(quantity)
        if not isinstance(y, tuple):  # no image has both
            continue
        style = styles.of(set_)
        axis.errorbar(
            x.value,
            y.value,
            xerr=[[x.value - x.low], [x.high - x.value]],
            yerr=[[y.value - y.low], [y.high - y.value]],
            marker=style.marker,
            color=style.colour,
            fillstyle=fills[setting],
            markersize=_MARKER,
            linewidth=0.5,
            linestyle="",
            label=f"{set_}, {setting}",
        )
