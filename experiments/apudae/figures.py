"""What purification does to reconstruction errors and to images."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.threats import CLEAN
from advdenoise.ranges import PositiveInt
from advdenoise.reporting import labels
from advdenoise.reporting.examples import Examples, first_replicate, read_examples
from advdenoise.reporting.palette import Styles
from advdenoise.reporting.read import Results
from advdenoise.reporting.sheet import CROSS, Row, Tile, sheet
from advdenoise.reporting.subject import describe

from .labels import LABELS
from .results import LabelAssignment, defence

if TYPE_CHECKING:
    import pandas as pd

_BINS = 40
_GROUPS = ["dataset", "classifier", "purifier", "purifier_point"]


def errors(
    predictions: Results, styles: Styles | None = None, *, variant: str, attack: str = "BIM"
) -> Figure:
    """Reconstruction errors of clean and adversarial images, before and after (Fig. 3).

    One row of two panels, before and after purification, for each first point of `variant` ("A"
    to "G") in a data set; both have the bins of the first. `attack` is a printed name.
    """
    labeler = LabelAssignment(predictions)
    frame = predictions.frame[predictions.frame["seed"] == predictions.frame["seed"].iloc[0]]
    pairs = _pairs(frame, labeler, variant, attack)
    styles = styles or Styles()
    figure, axes = plt.subplots(
        len(pairs),
        2,
        figsize=(8, 3 * len(pairs)),
        squeeze=False,
        sharex="row",
        sharey="row",
        layout="constrained",
    )
    for row, (name, clean, attacked) in zip(axes, pairs, strict=True):
        before = np.concatenate([some["error_before"] for some in (clean, attacked)])
        after = np.concatenate([some["error_after"] for some in (clean, attacked)])
        both = np.concatenate([before, after])
        both = both[np.isfinite(both)]  # a purifier that diverges leaves no error to draw
        count = min(_BINS, math.ceil(2 * math.sqrt(len(before) / 2)))
        bins = np.linspace(0, both.max(initial=0.0) or 1.0, count + 1)
        for axis, column, when in zip(row, _COLUMNS, ("before", "after"), strict=True):
            title = f"{name}, {when} purification"
            for some, label in ((clean, CLEAN), (attacked, attack)):
                shade = styles.of(label).colour
                look = {"histtype": "stepfilled", "alpha": 0.35, "color": shade}
                values = some[column][np.isfinite(some[column])]
                if missing := len(some) - len(values):
                    title += f"\n{label}: {missing} of {len(some)} are not finite"
                axis.hist(values, bins, label=label, **look)
                axis.hist(values, bins, histtype="step", color=shade)
            axis.set_title(title, fontsize=8)
            axis.set_xlabel("reconstruction error (sum of squared differences of pixels in [0,1])")
            axis.xaxis.label.set_fontsize(7)
        row[0].set_ylabel("images")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=2, loc="outside upper center")
    return figure


def strips(
    examples: list[Path],
    *,
    attack: str = "BIM",
    purifiers: list[str] | None = None,
    images: PositiveInt = 6,
) -> Figure:
    """Images as they are, under an attack, and purified in several ways (Fig. 2).

    Rows of the first `images` images, of the first replicate; `purifiers` names points that are
    shown (`purifier` or `purifier point`), all by default. Above an image stands what is predicted,
    crossed where that is wrong.
    """
    rows: list[Row] = []
    begun: set[tuple] = set()
    for example in first_replicate(read_examples(examples, images)):
        about = example.about
        name = labels.with_point(about["purifier"], about["purifier_point"])
        if example.attack_name(LABELS) != attack or (purifiers and name not in purifiers):
            continue
        where = tuple(about[key] for key in ("dataset", "classifier", "threat", "attack_point"))
        if where not in begun:
            begun.add(where)
            rows += [Row("clean", _clean(example)), Row(attack, _attacked(example))]
        if example.is_purified:
            tiles = zip(example.purified, example.prediction, strict=True)
            printed = defence(about["function"])
            rows.append(Row(f"{printed}\n{name}" if printed else name, _tiles(example, tiles)))
    if not rows:
        raise BadInput(
            f"figures: no example images are under {attack!r} behind the purifiers asked for; "
            "correct `attack` or `purifiers`, or cross others"
        )
    where = "; ".join(describe([examples], LABELS))
    return sheet(rows, title=where, note=f"above an image: the predicted class; {CROSS}: wrong")


_COLUMNS = ("error_before", "error_after")


def _pairs(
    frame: "pd.DataFrame", labeler: LabelAssignment, variant: str, attack: str
) -> list[tuple[str, "pd.DataFrame", "pd.DataFrame"]]:
    """Name, clean and attacked rows of the first point of a variant in each data set."""
    pairs_of: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    names: set[str] = set()
    for values, rows in frame.groupby([*_GROUPS, "threat", "attack_point"], sort=False):
        about = dict(zip([*_GROUPS, "threat", "attack_point"], values, strict=True))
        if labeler.defence(about) != variant:
            continue
        printed = labeler.attack(about)
        names.add(printed)
        if printed in (CLEAN, attack):
            place = (about["dataset"], labels.purifier(about))
            pairs_of.setdefault(place, {}).setdefault(printed, rows[rows["draw"] == 0])
    pairs = {}
    for (dataset, own), both in pairs_of.items():
        if {CLEAN, attack} <= both.keys():
            name = f"{labels.dataset(dataset)}, APuDAE({variant}) ({own}), n = {len(both[CLEAN])}"
            pairs.setdefault(dataset, (name, both[CLEAN], both[attack]))
    if not pairs:
        suggestion = f"; {suggest(attack, names - {CLEAN})}" if names else ""
        raise BadInput(f"figures: no purifier of variant {variant!r} met {attack!r}{suggestion}")
    return list(pairs.values())


def _clean(example: Examples) -> list[Tile]:
    return [
        Tile(picture, example.classes[label])
        for picture, label in zip(example.images, example.labels, strict=True)
    ]


def _attacked(example: Examples) -> list[Tile]:
    return _tiles(example, zip(example.inputs, example.input_prediction, strict=True))


def _tiles(example: Examples, pairs) -> list[Tile]:
    return [
        Tile(picture, example.name(prediction), prediction != label)
        for (picture, prediction), label in zip(pairs, example.labels, strict=True)
    ]
