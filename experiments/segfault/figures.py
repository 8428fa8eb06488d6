"""Features of detectors and their cost, and images with the borders of their superpixels."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.threats import CLEAN
from advdenoise.ranges import PositiveInt
from advdenoise.reporting import labels
from advdenoise.reporting.measures import auc
from advdenoise.reporting.palette import COLOURS, GREY, MARKERS, Style, Styles
from advdenoise.reporting.read import Results
from advdenoise.reporting.subject import describe
from advdenoise.statistics import Estimate

from .costs import costs, key
from .labels import DETECTORS, LABELS, REPRESENTATIONS, detector_name, superpixel_name
from .superpixels import ExampleImage, read_superpixels

if TYPE_CHECKING:
    import pandas as pd

_SIZE = 6  # of a pixel, so that a border is thin beside it
_BORDER = (1.0, 1.0, 0.0)
_GAP = 40  # above each picture, for its title
_PLACES = ["dataset", "classifier", "attribution", "attribution_point"]
_PAPER_DETECTOR = DETECTORS["trees.xgboost"]


class _Pair(NamedTuple):
    """Images of one setting and the same under an attack, in the same order."""

    setting: str
    clean: "pd.DataFrame"
    attacked: "pd.DataFrame"
    label: str


def spread(
    iqr: Results, styles: Styles | None = None, *, attack: str = "FGSM", images: PositiveInt = 128
) -> Figure:
    """Interquartile range of the predicted class, clean against adversarial images (Fig. 1).

    One panel for each data set, classifier and attribution. `attack` is a printed name; of its
    epsilons the largest is shown, for the split's first `images` images that have it.
    """
    styles = styles or Styles()
    pairs = list(_pairs(iqr, attack, images))
    figure, axes = plt.subplots(
        1, len(pairs), figsize=(5 * len(pairs), 3.6), squeeze=False, layout="constrained"
    )
    for axis, pair in zip(axes[0], pairs, strict=True):
        for rows, label in ((pair.clean, CLEAN), (pair.attacked, pair.label)):
            _scatter(axis, np.concatenate(rows["predicted"].to_list()), label, styles)
        axis.set_title(pair.setting, fontsize=8)
        axis.set_xlabel("image")
    axes[0][0].set_ylabel("IQR of the predicted class's\nleave-one-out attributions")
    _legend(figure, axes[0][0])
    return figure


def outputs(
    iqr: Results, styles: Styles | None = None, *, attack: str = "FGSM", images: PositiveInt = 128
) -> Figure:
    """The same for every output of the classifier, a panel each (Fig. 2)."""
    styles = styles or Styles()
    pairs = list(_pairs(iqr, attack, images))
    count = len(pairs[0].clean["probabilities"].iloc[0])
    columns = -(-count // 2)
    figure, axes = plt.subplots(
        2 * len(pairs),
        columns,
        figsize=(2.2 * columns, 3.6 * len(pairs)),
        squeeze=False,
        layout="constrained",
    )
    for place, pair in enumerate(pairs):
        panels = axes[2 * place : 2 * place + 2].flat
        for rows, label in ((pair.clean, CLEAN), (pair.attacked, pair.label)):
            values = np.stack(rows["probabilities"].to_list())
            for output in range(count):
                _scatter(panels[output], values[:, output], label, styles)
                panels[output].set_title(f"output {output}", fontsize=7, pad=2)
        for unused in panels[count:]:
            unused.axis("off")
        panels[0].set_ylabel(pair.setting, fontsize=6)
    figure.supxlabel("image", fontsize=9)
    figure.supylabel("IQR of an output's leave-one-out attributions", fontsize=9)
    _legend(figure, axes[0][0])
    return figure


def tradeoff(
    detection: Results,
    cost: Results,
    *,
    attack: str = "C&W",
    representation: Literal["predicted", "probabilities", "hidden"] = "probabilities",
) -> Figure:
    """AUC against seconds (Fig. 3), forward passes and bytes: a point for each setting.

    Seconds and bytes are those of Table 7. `attack` is a printed name; scores are of the first
    protocol and, where it is there, of XGBoost. Bars are 95 % intervals over images.
    """
    by_key = {key(one.about): one for one in costs(cost)}
    points = [
        (by_key[key(cell.about)], cell.estimate)
        for cell in auc(_selected(detection, attack, representation), lambda about: ("", ""))
        if key(cell.about) in by_key
    ]
    if not points:
        raise BadInput(
            "figures: no setting has both scores and costs; cross the same data set, classifier "
            "and attributions in both"
        )
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), sharey=True, layout="constrained")
    points.sort(key=lambda point: _order(point[0].setting))
    styles = _styles([one.setting for one, _ in points])
    for axis, (name, measure) in zip(axes, _MEASURES.items(), strict=True):
        for one, value in points:
            _bar(axis, measure(one), value, styles[one.setting], one.setting)
        axis.axhline(0.5, color=GREY, linestyle="--", linewidth=0.8, label=_CHANCE)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.tick_params("x", labelsize=8, rotation=30)
        axis.set_xlabel(name)
    axes[0].set_ylabel(f"AUC, {attack}, {REPRESENTATIONS[representation]}")
    handles, texts = axes[0].get_legend_handles_labels()
    title = "bars: 95 % intervals over images"
    figure.legend(handles, texts, title=title, fontsize=8, loc="outside right upper")
    facts = [*describe([detection], LABELS), f"n = {max(value.n for _, value in points)}"]
    figure.suptitle("; ".join(facts), fontsize=9)
    return figure


_MEASURES = {
    "seconds for a batch (s)": lambda cost: np.median(cost.seconds),
    "forward passes for an image": lambda cost: cost.passes,
    "memory of a batch's attributions (bytes)": lambda cost: cost.array_bytes,
}


def boundaries(examples: list[Path], *, method: str, images: PositiveInt = 10) -> Figure:
    """Images (columns) with the segments of each setting of a method (rows) and their number.

    `method` is a function of superpixels, such as slic; shown are each file's first `images`.
    Tables 3, 4 and 5.
    """
    shown = [example for example in read_superpixels(examples, method) if example.index < images]
    grid = list(itertools.zip_longest(*map(_pictures, shown)))  # settings by images
    side = max(max(picture.shape[:2]) for row in grid for _, picture in filter(None, row))
    columns = max(map(len, grid))
    # One picture of all: matplotlib takes seconds for as many axes.
    canvas = np.ones((len(grid) * (side + _GAP), columns * (side + _GAP), 3))
    figure, axis = plt.subplots(figsize=(1.9 * columns, 1.9 * len(grid)))
    for row, pictures in enumerate(grid):
        for column, titled in enumerate(pictures):
            if titled is None:  # of other images there are more settings
                continue
            title, picture = titled
            top, left = row * (side + _GAP) + _GAP, column * (side + _GAP)
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            axis.text(left, top - _GAP / 4, title, fontsize=5.5)
    axis.imshow(canvas)
    axis.axis("off")
    where = "; ".join(describe([examples], LABELS))
    axis.set_title(f"{where}; {method}: the setting and how many segments", fontsize=8)
    return figure


def _pairs(iqr: Results, attack: str, images: int) -> Iterator[_Pair]:
    """Clean and adversarial rows of the first replicate, for each setting."""
    frame = iqr.frame[iqr.frame["seed"] == iqr.frame["seed"].iloc[0]]
    threat, point = _named(iqr, frame, attack)
    entry = iqr.attack(threat)
    for names, rows in frame.groupby(_PLACES, sort=False):
        attacked = rows[(rows["threat"] == threat) & (rows["attack_point"] == point)]
        largest = attacked["epsilon"].max()
        if largest == largest:  # NaN, which differs from itself, is no budget
            attacked = attacked[attacked["epsilon"] == largest]
        attacked = attacked.head(images)
        clean = rows[rows["threat"] == CLEAN].set_index("id").reindex(attacked["id"])
        label = attack
        if largest == largest:
            unit = entry.get("epsilon_unit", {}).get("name", "of the pixel range")
            label += f", epsilon = {labels.epsilon(entry, largest)} {unit}"
        setting = _setting(iqr, *names) + f", n = {len(attacked)}"
        yield _Pair(setting, clean.dropna(subset="predicted"), attacked, label)


def _setting(iqr: Results, dataset: str, classifier: str, attribution: str, point: str) -> str:
    """Data set, classifier and superpixels as printed."""
    settled = iqr.entry("attribution", attribution)["points"][point]
    network = LABELS.classifier(iqr.entry("classifier", classifier))
    return ", ".join([labels.dataset(dataset), network, superpixel_name(settled)])


def _named(results: Results, frame: "pd.DataFrame", attack: str) -> tuple[str, str]:
    """The first threat and point with this printed name."""
    attacked = frame[frame["threat"] != CLEAN][["threat", "attack_point"]].drop_duplicates()
    printed: dict[str, tuple[str, str]] = {}
    for threat, point in attacked.itertuples(index=False, name=None):
        printed.setdefault(LABELS.attack(results.attack(threat), point), (threat, point))
    if attack not in printed:
        raise BadInput(f"figures: no attack is printed {attack!r}; {suggest(attack, printed)}")
    return printed[attack]


def _scatter(axis: Axes, values: np.ndarray, label: str, styles: Styles) -> None:
    style = styles.of(label)
    look = {"color": style.colour, "marker": style.marker, "alpha": 0.8}
    axis.scatter(range(len(values)), values, s=12, label=label, **look)
    axis.set_yscale("symlog", linthresh=1e-6)


def _legend(figure: Figure, axis: Axes) -> None:
    """What all panels have in common, above them."""
    handles, texts = axis.get_legend_handles_labels()
    figure.legend(handles, texts, fontsize=8, ncols=2, loc="outside upper center")


def _selected(detection: Results, attack: str, representation: str) -> Results:
    """The rows of one attack, representation, protocol and detector."""
    frame = detection.frame
    threat, point = _named(detection, frame, attack)
    frame = frame[(frame["threat"] == threat) & (frame["attack_point"] == point)]
    frame = frame[frame["representation"] == representation]
    frame = frame[frame["protocol"] == frame["protocol"].iloc[0]]
    detectors = frame[["detector", "detector_point"]].drop_duplicates()
    pairs = list(detectors.itertuples(index=False, name=None))
    shown = {detector_name(detection.entry("detector", d), p): (d, p) for d, p in pairs[::-1]}
    detector, detector_point = shown.get(_PAPER_DETECTOR, pairs[0])
    right = (frame["detector"] == detector) & (frame["detector_point"] == detector_point)
    return detection.of(frame[right])


def _order(setting: str) -> tuple[str, list[float]]:
    """Sorts by method, and then by the numbers of its settings."""
    return setting.partition(" ")[0], [float(number) for number in re.findall(r"[\d.]+", setting)]


def _styles(settings: list[str]) -> dict[str, Style]:
    """A colour for each method and a marker for each of its settings."""
    styles: dict[str, Style] = {}
    methods: dict[str, list[str]] = {}
    for setting in dict.fromkeys(settings):
        methods.setdefault(setting.partition(" ")[0], []).append(setting)
    for colour, own in zip(itertools.cycle(COLOURS), methods.values(), strict=False):
        for marker, setting in zip(itertools.cycle(MARKERS), own, strict=False):
            styles[setting] = Style(colour, marker)
    return styles


def _bar(axis: Axes, place: float, value: Estimate, style: Style, label: str) -> None:
    below, above = value.value - value.low, value.high - value.value
    axis.errorbar(
        place,
        value.value,
        np.maximum(np.nan_to_num([[below], [above]]), 0),
        color=style.colour,
        marker=style.marker,
        linestyle="",
        markersize=6,
        elinewidth=0.6,
        label=label,
    )


_CHANCE = "chance; below it clean images\nlook more adversarial"


def _pictures(example: ExampleImage) -> list[tuple[str, np.ndarray]]:
    """The image as it is and under each setting, enlarged, with titles."""
    nothing = np.zeros(example.image.shape[:2])
    pictures = [(example.name, _outlined(example.image, nothing))]
    for point, segments in sorted(example.maps, key=lambda pair: _in_order(pair[0])):
        settings = " ".join(labels.superpixel_settings(point))
        title = f"{settings}: {len(np.unique(segments))}"
        pictures.append((title, _outlined(example.image, segments)))
    return pictures


def _in_order(point: dict) -> tuple[float, ...]:
    """Settings in rising order."""
    names = labels.SUPERPIXELS.get(point["function"].partition(".")[2], ())
    return tuple(point["settings"][name] for name in names)


def _outlined(image: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """An image [H,W,C] enlarged, in colour, with a border between pixels of different segments."""
    picture = np.broadcast_to(image, (*image.shape[:2], 3))
    picture, segments = (array.repeat(_SIZE, 0).repeat(_SIZE, 1) for array in (picture, segments))
    border = np.zeros(segments.shape, dtype=bool)
    border[1:] |= segments[1:] != segments[:-1]
    border[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    picture[border] = _BORDER
    return picture
