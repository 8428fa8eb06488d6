"""Measures of predicted masks where each image is under the attack that is worst for it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from advdenoise import metrics, statistics
from advdenoise.errors import BadInput
from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import flags
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.defences import DEFENCE, key_of
from advdenoise.reporting.measures import Label, cell, spread_of
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.reporting.worst import OBLIVIOUS, attack_sets
from advdenoise.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

MIOU = "mIoU"
# Measures of one image, of which the smallest over the attacks counts; their mean is over images.
OF_IMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pixel accuracy": metrics.pixel_accuracy,
    "image-wise mIoU": metrics.miou,
    "image-wise micro IoU": metrics.micro_iou,
}


def worst_case(predictions: Results, label: Label, unit: str = "%") -> list[Cell]:
    """Pixel accuracy and mIoU of a defence where each image is under its worst attack.

    For each defence of clean images, then over oblivious attacks, over adaptive ones and over all,
    each set with the clean images, as in `worst.worst_case`; `label` gets the set as `attacker` and
    the measure as `measure`:

        pixel accuracy, image-wise mIoU, image-wise micro IoU: the smallest of each image, averaged
            over images; bootstrapped. Images without labelled pixels are left out.
        mIoU: of one matrix over all images, with the attacks of `metrics.lowest_miou`. Intervals
            resample images, with these attacks.

    The matrices of several draws of a random purifier are added up for each image and threat first.
    Replicates are averaged. Raises BadInput if predictions are no masks.
    """
    if not predictions.is_dense:
        raise BadInput(
            "tables: a table of mIoU reads predictions of masks; cross a data set of masks"
        )
    threats = predictions.frame["threat"]
    fixed = [threat for threat in threats.unique() if predictions.knows_draws(threat)]
    frame = predictions.frame[~threats.isin(fixed)]
    outcomes = flags.of_predictions(predictions, False)
    cells = []
    for about, rows in iter_groups(frame, DEFENCE):
        about["split"] = " and ".join(rows["split"].unique())
        for attacker, matrices in attack_sets(_matrices(rows)):
            own = [] if attacker == CLEAN else outcomes[key_of(about)]
            if attacker == OBLIVIOUS:
                own = flags.of_attacks(own, matrices.columns)
            for measure, estimate, spread in _measures(matrices):
                names = about | {"attacker": attacker, "measure": measure}
                result = cell(label(names), measure, unit, estimate, spread, names)
                cells.append(replace(result, flags=flags.summary(own)))
    return cells


def _matrices(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Flat confusion matrices: a row for each image, a column for each threat's point."""
    names = ["threat", "attack_point", "seed", "id"]
    sums = rows.groupby(names)["confusion"].agg(lambda parts: np.sum(np.stack(list(parts)), 0))
    return sums.unstack(names[:2])


def _measures(matrices: "pd.DataFrame") -> Iterator[tuple[str, Estimate, float]]:
    """Each measure of the images under all attacks of a set, and the spread of replicates."""
    seeds, ids = (matrices.index.get_level_values(name).to_numpy() for name in ("seed", "id"))
    counts = np.array([[*map(np.asarray, row)] for row in matrices.to_numpy()], dtype=np.float64)
    classes = math.isqrt(counts.shape[-1])
    counts = np.moveaxis(counts, 1, 0)  # attacks, images, classes * classes
    counts = counts.reshape(*counts.shape[:2], classes, classes)
    labelled = counts[0].sum((-2, -1)) > 0
    for name, measure in OF_IMAGES.items():
        worst = measure(counts[:, labelled]).min(0)
        own = seeds[labelled]
        spread = spread_of([worst[own == seed].mean() for seed in np.unique(own)])
        yield name, statistics.bootstrap_mean(worst, ids[labelled]), spread
    values = [_resampled_miou(counts[:, seeds == s], ids[seeds == s]) for s in np.unique(seeds)]
    estimate = statistics.interval_of(np.mean(values, axis=0), len(np.unique(ids)))
    yield MIOU, estimate, spread_of([own[0] for own in values])


def _resampled_miou(counts: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """mIoU [1 + resamples] of matrices [A, N, K, K] under the chosen attacks."""
    chosen = metrics.lowest_miou(counts)
    worst = counts[chosen, np.arange(len(chosen))]
    sums, _ = statistics.resampled_sums(worst.reshape(len(worst), -1), ids)
    return metrics.miou(sums.reshape(-1, *worst.shape[1:]))
