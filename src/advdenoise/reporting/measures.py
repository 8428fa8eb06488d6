"""Measures over result rows, each with its interval over images: the cells of tables."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise import metrics, statistics
from advdenoise.errors import BadInput
from advdenoise.graph.threats import CLEAN
from advdenoise.io.schemas import DETECTION
from advdenoise.reporting import flags
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.correct import is_correct, is_skipped
from advdenoise.reporting.defences import key_of
from advdenoise.reporting.read import Results, iter_groups, read
from advdenoise.statistics import Estimate, Scored

if TYPE_CHECKING:
    import pandas as pd

_PREDICTED = ["dataset", "split", "classifier", "threat", "attack_point", "purifier"]
GROUP = [*_PREDICTED, "purifier_point"]  # what an accuracy is of
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
_OBSERVED = [*GROUP, "layer_index", "layer"]

# From the names of a group of rows to the printed row and column.
Label = Callable[[dict], tuple[str, str]]


def accuracy(
    predictions: Results,
    label: Label,
    unit: str = "%",
    by: tuple[str, ...] = (),
    among_top: bool = False,
) -> list[Cell]:
    """Share of images that are classified correctly, over all images and replicates (Wilson).

    Draws of a random purifier are averaged for each image first. `by` are further columns to group
    by; `among_top` is that of `is_correct`. Of an attack that spared what others fooled it is the
    accuracy on what was left. Flags are those of the attack, by all attacks on the same defence in
    `predictions`.
    """
    cells = []
    spared = _spared(predictions)
    outcomes = flags.of_predictions(predictions, among_top)
    for about, shares in correct_shares(predictions, by, among_top):
        estimate = statistics.wilson(shares.sum(), len(shares))
        spread = spread_of(shares.groupby("seed").mean())
        metric = accuracy_name(about["threat"] == "clean", among_top)
        place = about["threat"], about["attack_point"]
        if place in spared:
            metric += " on what other attacks left"
        own = flags.of_attacks(outcomes.get(key_of(about), []), [place])
        without_flags = cell(label(about), metric, unit, estimate, spread, about)
        cells.append(replace(without_flags, flags=flags.summary(own)))
    return cells


def _spared(predictions: Results) -> set[tuple[str, str]]:
    """Threats and attack points that did not attack every image."""
    skipped = predictions.frame[is_skipped(predictions.frame)]
    return set(zip(skipped["threat"], skipped["attack_point"], strict=True))


def correct_shares(
    predictions: Results, by: tuple[str, ...] = (), among_top: bool = False
) -> Iterator[tuple[dict, "pd.Series"]]:
    """Names of each group, and the share of correct draws of its images, by seed and id.

    Images that the attack spared are left out.
    """
    attacked = predictions.frame[~is_skipped(predictions.frame)]
    for about, rows in iter_groups(attacked, [*GROUP, *by]):
        hits = is_correct(rows, among_top).astype(float)
        yield about, hits.groupby([rows["seed"], rows["id"]]).mean()


def accuracy_name(is_clean: bool, among_top: bool) -> str:
    """The name of an accuracy."""
    name = "clean accuracy" if is_clean else "robust accuracy"
    return f"{name} among the top 1 % of classes" if among_top else name


def with_top_hits(predictions: Results) -> tuple[Results, int]:
    """The rows with the label as prediction where `is_correct(among_top=True)`, else -1.

    Also the largest k.
    """
    frame = predictions.frame
    hits = is_correct(frame, among_top=True)
    hit_rows = frame.assign(prediction=frame["label"].where(hits, -1))
    return predictions.of(hit_rows), int((frame["classes"] // 100).clip(lower=1).max())


def correct_when_clean(
    predictions: Results, is_reference: Callable[[dict], bool]
) -> tuple[Results, tuple[int, int]]:
    """The rows of images that the first group for which `is_reference` classifies correctly clean.

    Also the number of these images and of all, over data sets, splits and replicates. Data sets and
    splits without such a group keep all images.
    """
    kept: dict[tuple, set] = {}
    for about, shares in correct_shares(predictions):
        if about["threat"] == CLEAN and is_reference(about):
            key = (about["dataset"], about["split"])
            kept.setdefault(key, set(shares.index[shares == 1]))
    frame = predictions.frame
    images = ["dataset", "split", "seed", "id"]
    whole = [
        (dataset, split) not in kept or (seed, image) in kept[dataset, split]
        for dataset, split, seed, image in frame[images].itertuples(index=False, name=None)
    ]
    count, total = (len(rows[images].drop_duplicates()) for rows in (frame[whole], frame))
    return predictions.of(frame[whole]), (count, total)


def chance(predictions: Results) -> dict[tuple[str, str], float]:
    """One over the number of classes among the images of each data set and split."""
    classes = predictions.frame.groupby(["dataset", "split"])["label"].nunique()
    return {key: 1 / count for key, count in classes.items()}


class Miou(NamedTuple):
    """The mIoU of a group of predictions in [0,1], of all images and of resampled ones.

    `values` [1 + resamples] is the mean over replicates, `of_replicates` each replicate's mIoU by
    seed. Groups of equal `ids`, pairs of seed and image, share their resamples, so that a function
    of several mIoU is computed resample by resample.
    """

    values: np.ndarray
    of_replicates: dict[int, float]
    ids: tuple

    def estimate(self, values: np.ndarray) -> Estimate:
        """The estimate of a function [1 + resamples] of this mIoU and others of equal ids."""
        return statistics.interval_of(values, len({image for _, image in self.ids}))


def mious(predictions: Results) -> Iterator[tuple[dict, Miou]]:
    """Names of each group of predicted masks, and its mIoU.

    It is computed from one confusion matrix over all images for each replicate, without classes
    that are neither in masks nor in predictions. The matrices of several draws of a random purifier
    are added up. Raises BadInput if predictions are no masks.
    """
    if not predictions.is_dense:
        raise BadInput(
            "tables: a table of mIoU reads predictions of masks; cross a data set of masks"
        )
    for about, rows in iter_groups(predictions.frame, GROUP):
        yield about, _miou(rows)


def _miou(rows: "pd.DataFrame") -> Miou:
    by_seed, images = {}, set()
    for seed, replicate in rows.groupby("seed"):
        counts, ids = np.stack(replicate["confusion"].to_list()), replicate["id"].to_numpy()
        classes = math.isqrt(counts.shape[1])
        sums, _ = statistics.resampled_sums(counts, ids)
        by_seed[seed] = metrics.miou(sums.reshape(-1, classes, classes))
        images |= {(seed, image) for image in ids.tolist()}
    return Miou(
        np.mean(list(by_seed.values()), axis=0),
        {seed: float(values[0]) for seed, values in by_seed.items()},
        tuple(sorted(images)),
    )


def auc(detection: Results, label: Label) -> list[Cell]:
    """Area under the ROC curve: mean over replicates and splits, their deviation as spread.

    The interval is that of the mean, by a bootstrap over the images that any split tests on; `n`
    counts them. It is conditional on the fitted detectors; the spread shows how much fits on other
    images differ.
    """
    groups = iter_groups(detection.frame, _DETECTED)
    return [_area(label(about), rows, about) for about, rows in groups]


def auc_difference(
    detection: Results, label: Label, first: str = "paper", second: str = "grouped"
) -> list[Cell]:
    """By how much the AUC under the protocol `first` exceeds that under `second`, signed.

    The mean over the splits of all replicates that both protocols have, with the deviation between
    them as spread and a bootstrap over images, drawn once for both protocols and all splits.
    `label` gets the protocol as `first - second`.
    """
    cells = []
    shared = [name for name in _DETECTED if name != "protocol"]
    for about, rows in iter_groups(detection.frame, shared):
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
    """AUC of every detector on every attack's test rows, as `auc`.

    `label` gets the attack that a detector was fitted on as `fitted_threat` and `fitted_point`. The
    scores of one such attack are read at a time.
    """
    cells = []
    fitted = detection.frame[_FITTED].drop_duplicates()
    for attack in fitted.itertuples(index=False, name=None):
        scores = read(detection.paths, DETECTION, fitted_on=attack)
        for about, rows in iter_groups(scores.frame, [*_DETECTED, *_FITTED]):
            cells.append(_area(label(about), rows, about))
    return cells


def true_positive_rates(
    detection: Results, label: Label, rates: tuple[float, ...] = (0.01, 0.05, 0.1)
) -> list[Cell]:
    """True positive rates at some false positive rates, averaged over splits.

    The interval is Wilson's for the adversarial images that any split tests on, with the thresholds
    taken as fixed; `n` counts these images.
    """
    cells = []
    for about, rows in iter_groups(detection.frame, _DETECTED):
        splits = [part for _, part in rows.groupby(_RUN)]
        images = rows["id"][rows["is_adversarial"]].nunique()
        for rate in rates:
            measured = [
                metrics.tpr_at_fpr(p["score"].to_numpy(), p["is_adversarial"].to_numpy(), rate)
                for p in splits
            ]
            estimate = statistics.wilson(np.mean(measured) * images, images)
            row, column = label(about)
            metric = f"TPR at {rate:.0%} FPR"
            spread = spread_of(np.array(measured))
            cells.append(cell((row, f"{column} {metric}"), metric, "", estimate, spread, about))
    return cells


def distance(distances: Results, measure: str, label: Label) -> list[Cell]:
    """Mean over images of a layer-wise distance (`ne_d`, `ne_d_sqrt` or `cos_d`), bootstrapped.

    `deviation` is the standard deviation between images, `elements` the size of the layer's map.
    """
    cells = []
    for about, rows in iter_groups(distances.frame, _OBSERVED):
        values = rows[measure].astype(float)
        more = {"elements": int(rows["elements"].iloc[0]), "deviation": spread_of(values)}
        cells.append(_mean(label(about), measure, "", values, rows, about | more))
    return cells


def noise(predictions: Results, column: str, label: Label, unit: str, factor: float) -> list[Cell]:
    """Mean over images of `factor` times a squared difference to the clean image, bootstrapped.

    `column` is `mse_before` or `mse_after`.
    """
    cells = []
    for about, rows in iter_groups(predictions.frame, GROUP):
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
    scores, positive, ids = (rows[name].to_numpy() for name in ("score", "is_adversarial", "id"))
    return Scored(scores, positive, ids, runs)


def _runs(rows: "pd.DataFrame") -> np.ndarray:
    """The number of each row's run; a run is a split of a replicate."""
    return rows.groupby(_RUN).ngroup().to_numpy()


def _areas(rows: "pd.DataFrame", runs: np.ndarray) -> dict[int, float]:
    """The AUC of each run."""
    score, is_adversarial = rows["score"].to_numpy(), rows["is_adversarial"].to_numpy()
    return {
        run: metrics.roc_auc(score[runs == run], is_adversarial[runs == run])
        for run in np.unique(runs)
    }


def spread_of(values) -> float:
    """Standard deviation between replicates or splits; NaN where there is one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def cell(printed, metric: str, unit: str, estimate: Estimate, spread: float, about: dict) -> Cell:
    """A cell; shares become percent where `unit` is %."""
    factor = 100 if unit == "%" else 1
    row, column = printed
    return Cell(row, column, metric, unit, estimate.scaled(factor), spread * factor, about)
