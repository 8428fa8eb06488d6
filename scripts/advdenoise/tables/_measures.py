"""Measures over result rows, each with its interval over images: the cells of tables."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from scripts.advdenoise import metrics, statistics
from scripts.advdenoise.statistics import Estimate
from scripts.advdenoise.tables._cells import Cell
from scripts.advdenoise.tables._read import Results

if TYPE_CHECKING:
    import pandas as pd

_PREDICTED = ["dataset", "split", "classifier", "threat", "attack_point", "purifier"]
_DETECTED = [
    "dataset",
    "split",
    "classifier",
    "threat",
    "attack_point",
    "attribution",
    "attribution_point",
    "representation",
    "detector",
    "detector_point",
    "protocol",
]
_OBSERVED = [*_PREDICTED, "purifier_point", "layer_index", "layer"]

# From the names of a group of rows to the printed row and column.
Label = Callable[[dict], tuple[str, str]]


def accuracy(
    predictions: Results, label: Label, unit: str = "%", by: tuple[str, ...] = ()
) -> list[Cell]:
    """Share of images that are classified rightly, over all images and replicates (Wilson).

    Draws of a random purifier are averaged for each image first. `by` are further columns that
    tell groups apart.
    """
    cells = []
    for about, rows in _groups(predictions.frame, [*_PREDICTED, "purifier_point", *by]):
        correct = (rows["prediction"] == rows["label"]).astype(float)
        images = correct.groupby([rows["seed"], rows["id"]]).mean()
        estimate = statistics.wilson(images.sum(), len(images))
        spread = _spread(images.groupby("seed").mean())
        metric = "clean accuracy" if about["threat"] == "clean" else "robust accuracy"
        cells.append(_cell(label(about), metric, unit, estimate, spread, about))
    return cells


def auc(detection: Results, label: Label) -> list[Cell]:
    """Area under the ROC curve: mean over replicates and splits, their deviation as spread.

    The interval is a bootstrap over the images of one split, averaged over splits.
    """
    cells = []
    for about, rows in _groups(detection.frame, _DETECTED):
        splits = [part for _, part in rows.groupby(["seed", "split_seed"])]
        found = [
            statistics.bootstrap_auc(
                part["score"].to_numpy(), part["is_adversarial"].to_numpy(), part["id"].to_numpy()
            )
            for part in splits
        ]
        value, low, high, n = np.mean(found, axis=0)
        estimate = Estimate(float(value), float(low), float(high), int(n))
        spread = _spread(np.array([f.value for f in found]))
        cells.append(_cell(label(about), "AUC", "AUC", estimate, spread, about))
    return cells


def true_positive_rates(
    detection: Results, label: Label, rates: tuple[float, ...] = (0.01, 0.05, 0.1)
) -> list[Cell]:
    """Share of adversarial images found at given false positive rates, averaged over splits."""
    cells = []
    for about, rows in _groups(detection.frame, _DETECTED):
        splits = [part for _, part in rows.groupby(["seed", "split_seed"])]
        for rate in rates:
            found = [
                metrics.tpr_at_fpr(p["score"].to_numpy(), p["is_adversarial"].to_numpy(), rate)
                for p in splits
            ]
            positives = int(np.mean([part["is_adversarial"].sum() for part in splits]))
            estimate = statistics.wilson(np.mean(found) * positives, positives)
            row, column = label(about)
            metric = f"TPR at {rate:.0%} FPR"
            printed = row, f"{column} {metric}"
            cells.append(_cell(printed, metric, "", estimate, _spread(np.array(found)), about))
    return cells


def distance(distances: Results, measure: str, label: Label) -> list[Cell]:
    """Mean over images of a layer-wise distance (`ne_d`, `ne_d_sqrt` or `cos_d`), bootstrapped."""
    cells = []
    for about, rows in _groups(distances.frame, _OBSERVED):
        values = rows[measure].astype(float)
        estimate = statistics.bootstrap_mean(values.to_numpy(), rows["id"].to_numpy())
        spread = _spread(values.groupby(rows["seed"]).mean())
        cells.append(_cell(label(about), measure, "", estimate, spread, about))
    return cells


def _groups(frame: "pd.DataFrame", names: list[str]):
    for values, rows in frame.groupby(names, sort=False, observed=True, dropna=False):
        yield dict(zip(names, values, strict=True)), rows


def _spread(values) -> float:
    """Standard deviation between replicates or splits; NaN where there is one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _cell(printed, metric: str, unit: str, estimate: Estimate, spread: float, about: dict) -> Cell:
    factor = 100 if unit == "%" else 1
    scaled = Estimate(
        estimate.value * factor, estimate.low * factor, estimate.high * factor, estimate.n
    )
    return Cell(*printed, metric, unit, scaled, spread * factor, about)
