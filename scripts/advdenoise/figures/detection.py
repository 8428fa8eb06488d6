"""What the detectors see, and what it costs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.advdenoise.components import suggest
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.ranges import PositiveInt
from scripts.advdenoise.statistics import Estimate
from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._costs import Cost, costs, key
from scripts.advdenoise.tables._measures import auc
from scripts.advdenoise.tables._read import Results
from scripts.advdenoise.threats import CLEAN

if TYPE_CHECKING:
    import pandas as pd

_PLACES = ["dataset", "classifier", "attribution", "attribution_point"]
_PAPER_DETECTOR = _labels.DETECTORS["trees.xgboost"]


class _Pair(NamedTuple):
    """Images of one setting and the same under an attack, in the same order."""

    setting: str
    clean: "pd.DataFrame"
    attacked: "pd.DataFrame"
    label: str


def spread(iqr: Results, *, attack: str = "FGSM", images: PositiveInt = 128) -> Figure:
    """Interquartile range of the predicted class, clean against adversarial images (Fig. 1).

    One panel for each data set, classifier and attribution. `attack` is a printed name; of its
    epsilons the largest is shown, for the split's first `images` images that have it.
    """
    pairs = list(_pairs(iqr, attack, images))
    figure, axes = plt.subplots(1, len(pairs), figsize=(4.2 * len(pairs), 3.2), squeeze=False)
    for axis, pair in zip(axes[0], pairs, strict=True):
        for rows, label in ((pair.clean, "clean"), (pair.attacked, pair.label)):
            _scatter(axis, np.concatenate(rows["predicted"].to_list()), label)
        axis.set_title(pair.setting, fontsize=8)
        axis.set_xlabel("image")
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel("IQR of the predicted class's attributions")
    return figure


def outputs(iqr: Results, *, attack: str = "FGSM", images: PositiveInt = 128) -> Figure:
    """The same for every output of the classifier, a panel each (Fig. 2)."""
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
        for rows, label in ((pair.clean, "clean"), (pair.attacked, pair.label)):
            values = np.stack(rows["probabilities"].to_list())
            for output in range(count):
                _scatter(panels[output], values[:, output], label)
                panels[output].set_title(f"output {output}", fontsize=7, pad=2)
        for unused in panels[count:]:
            unused.axis("off")
        panels[0].set_ylabel(pair.setting, fontsize=6)
        panels[0].legend(fontsize=6)
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
    paid = {key(found.about): found for found in costs(cost)}
    points = [
        (paid[key(cell.about)], cell.estimate)
        for cell in auc(_judged(detection, attack, representation), lambda about: ("", ""))
        if key(cell.about) in paid
    ]
    if not points:
        raise BadInput(
            "figures: no setting has both scores and costs; cross the same data set, classifier "
            "and attributions in both"
        )
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True)
    for axis, (name, measure) in zip(axes, _MEASURES.items(), strict=True):
        for method, some in _by_method(points).items():
            _bars(axis, method, [(measure(found), value, found.setting) for found, value in some])
        axis.set_xscale("log")
        axis.set_xlabel(name)
    axes[0].set_ylabel(f"AUC, {attack}, {_labels.REPRESENTATIONS[representation]}")
    axes[0].legend(fontsize=7, loc="lower right")
    return figure


_MEASURES = {
    "seconds for a batch": lambda found: np.median(found.seconds),
    "forward passes for an image": lambda found: found.passes,
    "bytes of a batch's attributions": lambda found: found.array_bytes,
}


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
        label = f"{attack}, eps={_labels.epsilon(entry, largest)}"
        yield _Pair(", ".join(names), clean.dropna(subset="predicted"), attacked, label)


def _named(results: Results, frame: "pd.DataFrame", attack: str) -> tuple[str, str]:
    """The first threat and point that is printed so."""
    made = frame[frame["threat"] != CLEAN][["threat", "attack_point"]].drop_duplicates()
    printed: dict[str, tuple[str, str]] = {}
    for threat, point in made.itertuples(index=False, name=None):
        name = _labels.attack(results.attack(threat), point, threat.partition("@")[0])
        printed.setdefault(name, (threat, point))
    if attack not in printed:
        raise BadInput(f"figures: no attack is printed {attack!r}; {suggest(attack, printed)}")
    return printed[attack]


def _scatter(axis: Axes, values: np.ndarray, label: str) -> None:
    axis.scatter(range(len(values)), values, s=8, label=label)
    axis.set_yscale("symlog", linthresh=1e-6)


def _judged(detection: Results, attack: str, representation: str) -> Results:
    """The rows of one attack, representation, protocol and detector."""
    frame = detection.frame
    threat, point = _named(detection, frame, attack)
    frame = frame[(frame["threat"] == threat) & (frame["attack_point"] == point)]
    frame = frame[frame["representation"] == representation]
    frame = frame[frame["protocol"] == frame["protocol"].iloc[0]]
    detectors = frame[["detector", "detector_point"]].drop_duplicates()
    pairs = list(detectors.itertuples(index=False, name=None))
    shown = {_labels.detector(detection.entry("detector", d), p): (d, p) for d, p in pairs[::-1]}
    detector, detector_point = shown.get(_PAPER_DETECTOR, pairs[0])
    right = (frame["detector"] == detector) & (frame["detector_point"] == detector_point)
    return detection.of(frame[right])


def _by_method(points: list[tuple[Cost, Estimate]]) -> dict[str, list[tuple[Cost, Estimate]]]:
    methods: dict[str, list] = {}
    for cost, value in points:
        methods.setdefault(cost.setting.partition(" ")[0], []).append((cost, value))
    return methods


def _bars(axis: Axes, method: str, points: list[tuple[float, Estimate, str]]) -> None:
    places, values, names = zip(*points, strict=True)
    below = [value.value - value.low for value in values]
    above = [value.high - value.value for value in values]
    axis.errorbar(
        places,
        [value.value for value in values],
        np.maximum(np.nan_to_num([below, above]), 0),
        fmt="o",
        markersize=4,
        elinewidth=0.6,
        label=method,
    )
    for place, value, name in zip(places, values, names, strict=True):
        settings = name.partition(" ")[2]
        axis.annotate(settings, (place, value.value), fontsize=5, xytext=(3, 3), **_OFFSET)


_OFFSET = {"textcoords": "offset points"}
