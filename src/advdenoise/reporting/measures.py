"""Measures over result rows, each with its interval over images: the cells of tables."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise import metrics, statistics
from advdenoise.errors import BadInput
from advdenoise.graph.threats import CLEAN
from advdenoise.io.schemas import DETECTION
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.read import Results, read
from advdenoise.statistics import Estimate, Scored

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
_FITTED = ["fitted_threat", "fitted_point"]
_RUN = ["seed", "split_seed"]
_OBSERVED = [*_PREDICTED, "purifier_point", "layer_index", "layer"]

# From the names of a group of rows to the printed row and column.
Label = Callable[[dict], tuple[str, str]]


def accuracy(
    predictions: Results,
    label: Label,
    unit: str = "%",
    by: tuple[str, ...] = (),
    among_top: bool = False,
) -> list[Cell]:
    """Share of images that are classified rightly, over all images and replicates (Wilson).

    Draws of a random purifier are averaged for each image first. `by` are further columns that
    tell groups apart; `among_top` is that of `is_right`.
    """
    cells = []
    for about, images in correct(predictions, by, among_top):
        estimate = statistics.wilson(images.sum(), len(images))
        spread = spread_of(images.groupby("seed").mean())
        metric = accuracy_name(about["threat"] == "clean", among_top)
        cells.append(cell(label(about), metric, unit, estimate, spread, about))
    return cells


def correct(
    predictions: Results, by: tuple[str, ...] = (), among_top: bool = False
) -> Iterator[tuple[dict, "pd.Series"]]:
    """Names of a group, and of its images by seed and id the share of draws classified rightly."""
    for about, rows in _groups(predictions.frame, [*_PREDICTED, "purifier_point", *by]):
        right = is_right(rows, among_top).astype(float)
        yield about, right.groupby([rows["seed"], rows["id"]]).mean()


def is_right(rows: "pd.DataFrame", among_top: bool = False) -> "pd.Series":
    """Whether each row's prediction is its label.

    `among_top`: whether the label is among the k = max(1, classes // 100) largest outputs, which
    APuDAE counts as a hit on ImageNet.
    """
    if "prediction" not in rows:
        raise BadInput(
            f"tables: predictions of data set {rows['dataset'].iloc[0]!r} are masks, which have no "
            "accuracy; cross a data set of labels, or take a table of mIoU"
        )
    right = rows["prediction"] == rows["label"]
    if not among_top:
        return right
    most = (rows["classes"] // 100).clip(lower=1)
    return right.where(most == 1, rows["label_rank"] < most)


def accuracy_name(is_clean: bool, among_top: bool) -> str:
    """What an accuracy is called."""
    name = "clean accuracy" if is_clean else "robust accuracy"
    return f"{name} among the top 1 % of classes" if among_top else name


def top(predictions: Results) -> tuple[Results, int]:
    """The rows with a hit wherever `is_right` among the top; also the largest k that counts."""
    frame = predictions.frame
    judged = frame.assign(prediction=frame["label"].where(is_right(frame, among_top=True), -1))
    return predictions.of(judged), int((frame["classes"] // 100).clip(lower=1).max())


def chosen(
    predictions: Results, chooses: Callable[[dict], bool]
) -> tuple[Results, tuple[int, int]]:
    """The rows of images that are right when clean, by the first group that `chooses`.

    Also how many images these are and of how many, of each data set, split and replicate. Data sets
    and splits that no such group has judged keep all.
    """
    kept: dict[tuple, set] = {}
    for about, right in correct(predictions):
        if about["threat"] == CLEAN and chooses(about):
            where = (about["dataset"], about["split"])
            kept.setdefault(where, set(right.index[right == 1]))
    frame = predictions.frame
    images = ["dataset", "split", "seed", "id"]
    whole = [
        (dataset, split) not in kept or (seed, image) in kept[dataset, split]
        for dataset, split, seed, image in frame[images].itertuples(index=False, name=None)
    ]
    count, of = (len(some[images].drop_duplicates()) for some in (frame[whole], frame))
    return predictions.of(frame[whole]), (count, of)


def chance(predictions: Results) -> dict[tuple[str, str], float]:
    """One over the number of classes among the images of each data set and split."""
    classes = predictions.frame.groupby(["dataset", "split"])["label"].nunique()
    return {place: 1 / count for place, count in classes.items()}


class Miou(NamedTuple):
    """The mIoU of a group of predictions in [0,1], of all images and of resampled ones.

    `values` [1 + resamples] is the mean over replicates, `of_replicates` has each one's own by
    seed. Groups of equal `ids`, pairs of seed and image, are drawn alike: what follows from several
    has its interval from their values.
    """

    values: np.ndarray
    of_replicates: dict[int, float]
    ids: tuple

    def estimate(self, values: np.ndarray) -> Estimate:
        """What follows from the values of this and others of equal ids."""
        return statistics.interval_of(values, len({image for _, image in self.ids}))


def mious(predictions: Results) -> Iterator[tuple[dict, Miou]]:
    """Names of a group of predicted masks, and its mIoU.

    It is that of one confusion matrix over all images, for each replicate; classes that are neither
    in masks nor in predictions are left out. The confusion of several draws of a random purifier is
    added up. Raises BadInput where predictions are no masks.
    """
    if not predictions.is_dense:
        raise BadInput(
            "tables: a table of mIoU reads predictions of masks; cross a data set of masks"
        )
    for about, rows in _groups(predictions.frame, [*_PREDICTED, "purifier_point"]):
        yield about, _miou(rows)


def _miou(rows: "pd.DataFrame") -> Miou:
    found, images = {}, set()
    for seed, own in rows.groupby("seed"):
        counts, ids = np.stack(own["confusion"].to_list()), own["id"].to_numpy()
        classes = math.isqrt(counts.shape[1])
        sums, _ = statistics.resampled_sums(counts, ids)
        found[seed] = metrics.miou(sums.reshape(-1, classes, classes))
        images |= {(seed, image) for image in ids.tolist()}
    return Miou(
        np.mean(list(found.values()), axis=0),
        {seed: float(values[0]) for seed, values in found.items()},
        tuple(sorted(images)),
    )


def auc(detection: Results, label: Label) -> list[Cell]:
    """Area under the ROC curve: mean over replicates and splits, their deviation as spread.

    The interval is that of the mean, by a bootstrap over the images that any split tests on; `n`
    counts them. It holds for the detectors as they were fitted; how much another fit on other
    images would differ is the spread's to tell.
    """
    return [_area(label(about), rows, about) for about, rows in _groups(detection.frame, _DETECTED)]


def auc_difference(
    detection: Results, label: Label, first: str = "paper", second: str = "grouped"
) -> list[Cell]:
    """By how much the AUC under the protocol `first` exceeds that under `second`, signed.

    The mean over the splits of all replicates that both protocols have, with the deviation between
    them as spread and a bootstrap over images, drawn once for both protocols and all splits.
    `label` is told the protocol as `first - second`.
    """
    cells = []
    shared = [name for name in _DETECTED if name != "protocol"]
    for about, rows in _groups(detection.frame, shared):
        runs = _runs(rows)
        sides = [rows["protocol"] == protocol for protocol in (first, second)]
        common = set(runs[sides[0]]) & set(runs[sides[1]])
        if not common:
            continue
        estimate = statistics.bootstrap_auc_difference(
            *(_scored(rows[side], runs[side]) for side in sides)
        )
        areas = [_areas(rows[side], runs[side]) for side in sides]
        spread = spread_of([areas[0][run] - areas[1][run] for run in sorted(common)])
        about = about | {"protocol": f"{first} - {second}"}
        cells.append(cell(label(about), "AUC difference", "AUC", estimate, spread, about))
    return cells


def transfer_auc(detection: Results, label: Label) -> list[Cell]:
    """AUC of every detector on every attack's test rows, as `auc`; `label` is told both.

    The attack that a detector was fitted on is `fitted_threat` and `fitted_point`. The scores of
    one such attack are read at a time.
    """
    cells = []
    fitted = detection.frame[_FITTED].drop_duplicates()
    for attack in fitted.itertuples(index=False, name=None):
        found = read(detection.paths, DETECTION, fitted_on=attack)
        for about, rows in _groups(found.frame, [*_DETECTED, *_FITTED]):
            cells.append(_area(label(about), rows, about))
    return cells


def true_positive_rates(
    detection: Results, label: Label, rates: tuple[float, ...] = (0.01, 0.05, 0.1)
) -> list[Cell]:
    """Share of adversarial images found at given false positive rates, averaged over splits.

    The interval is that of a share of the adversarial images that any split tests on (Wilson), for
    thresholds as they are; `n` counts these images.
    """
    cells = []
    for about, rows in _groups(detection.frame, _DETECTED):
        splits = [part for _, part in rows.groupby(_RUN)]
        images = rows["id"][rows["is_adversarial"]].nunique()
        for rate in rates:
            found = [
                metrics.tpr_at_fpr(p["score"].to_numpy(), p["is_adversarial"].to_numpy(), rate)
                for p in splits
            ]
            estimate = statistics.wilson(np.mean(found) * images, images)
            row, column = label(about)
            metric = f"TPR at {rate:.0%} FPR"
            printed = row, f"{column} {metric}"
            cells.append(cell(printed, metric, "", estimate, spread_of(np.array(found)), about))
    return cells


def distance(distances: Results, measure: str, label: Label) -> list[Cell]:
    """Mean over images of a layer-wise distance (`ne_d`, `ne_d_sqrt` or `cos_d`), bootstrapped.

    `deviation` is the standard deviation between images, `elements` the size of the layer's map.
    """
    cells = []
    for about, rows in _groups(distances.frame, _OBSERVED):
        values = rows[measure].astype(float)
        told = about | {"elements": int(rows["elements"].iloc[0]), "deviation": spread_of(values)}
        cells.append(_mean(label(about), measure, "", values, rows, told))
    return cells


def noise(predictions: Results, column: str, label: Label, unit: str, factor: float) -> list[Cell]:
    """Mean over images of `factor` times a squared difference to the clean image, bootstrapped.

    `column` is `mse_before` or `mse_after`.
    """
    cells = []
    for about, rows in _groups(predictions.frame, [*_PREDICTED, "purifier_point"]):
        values = factor * rows[column].astype(float)
        cells.append(_mean(label(about), "MSE", unit, values, rows, about))
    return cells


def _mean(
    printed, metric: str, unit: str, values: "pd.Series", rows: "pd.DataFrame", about: dict
) -> Cell:
    estimate = statistics.bootstrap_mean(values.to_numpy(), rows["id"].to_numpy())
    spread = spread_of(values.groupby(rows["seed"]).mean())
    return cell(printed, metric, unit, estimate, spread, about)


def _area(printed: tuple[str, str], rows: "pd.DataFrame", about: dict) -> Cell:
    runs = _runs(rows)
    estimate = statistics.bootstrap_auc(*_scored(rows, runs))
    spread = spread_of(list(_areas(rows, runs).values()))
    return cell(printed, "AUC", "AUC", estimate, spread, about)


def _scored(rows: "pd.DataFrame", runs: np.ndarray) -> Scored:
    columns = (rows[name].to_numpy() for name in ("score", "is_adversarial", "id"))
    return Scored(*columns, runs)


def _runs(rows: "pd.DataFrame") -> np.ndarray:
    """The number of each row's run, which is a split of a replicate."""
    return rows.groupby(_RUN).ngroup().to_numpy()


def _areas(rows: "pd.DataFrame", runs: np.ndarray) -> dict[int, float]:
    """The area of each run."""
    score, is_adversarial = rows["score"].to_numpy(), rows["is_adversarial"].to_numpy()
    return {
        run: metrics.roc_auc(score[runs == run], is_adversarial[runs == run])
        for run in np.unique(runs)
    }


def _groups(frame: "pd.DataFrame", names: list[str]):
    for values, rows in frame.groupby(names, sort=False, observed=True, dropna=False):
        yield dict(zip(names, values, strict=True)), rows


def spread_of(values) -> float:
    """Standard deviation between replicates or splits; NaN where there is one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def cell(printed, metric: str, unit: str, estimate: Estimate, spread: float, about: dict) -> Cell:
    factor = 100 if unit == "%" else 1
    scaled = Estimate(
        estimate.value * factor, estimate.low * factor, estimate.high * factor, estimate.n
    )
    return Cell(*printed, metric, unit, scaled, spread * factor, about)
