"""The evaluate stage: purify in memory, predict, one row per image, threat, point and draw."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from scripts.advdenoise import store
from scripts.advdenoise.contents import ids_digest
from scripts.advdenoise.datasets._source import IGNORED
from scripts.advdenoise.noise import Noise
from scripts.advdenoise.schemas import PREDICTIONS, segmentation_schema
from scripts.advdenoise.stages import models
from scripts.advdenoise.stages.columns import Columns
from scripts.advdenoise.stages.data import Batch, open_images
from scripts.advdenoise.stages.threats import Met, open_threats


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    adversarial: list[Path],
    output: Path,
    denoiser: Path | None = None,
    calibration: Path | None = None,
) -> None:
    """Write the predictions for all threats of a suite behind one purifier.

    Of a dense image set they are one confusion matrix for each image, threat, point and draw.
    """
    started = time.time()
    device = models.device()
    with (
        open_images(images) as clean,
        open_threats(settings["threats"], adversarial, clean) as threats,
    ):
        judge = models.classifier(classifier, settings["classifier"], clean)
        using = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
        points = settings["purifier"]["points"]
        purifiers = {name: models.purifier(point, using) for name, point in points.items()}
        columns = Columns(segmentation_schema(len(clean.classes)) if clean.dense else PREDICTIONS)
        batches = clean.batches(settings["batch"], device)
        for batch in tqdm(batches, desc=f"evaluate {settings['suite']}", disable=None):
            for met in threats.meet(batch):
                for row in _rows(settings, purifiers, batch, met, judge, using):
                    columns.add(len(batch.ids), **row)
        # For accuracies among the top ones, and to tell when rows are missing.
        about = settings | {"classes": len(clean.classes), "ids": ids_digest(clean.ids)}
        store.write_table(output, columns.table(), store.provenance(about, started))


def _rows(settings: dict, purifiers: dict, batch: Batch, met: Met, judge, using) -> Iterator[dict]:
    """What becomes of a batch under one threat: the columns for every point and draw."""
    name = settings["purifier"]["name"]
    for point, purify in purifiers.items():
        for draw in range(_draws(settings["purifier"], point)):
            noise = Noise(settings["seed"], batch.ids, name, "defender", draw=draw)
            row = judge_batch(batch, met, judge, purify, noise, using)
            yield {"purifier": name, "purifier_point": point, "draw": draw, **row}


def _draws(purifier: dict, point: str) -> int:
    """How often a point is judged on an image: one without `noise` gives the same each time."""
    return purifier.get("draws", 1) if models.draws_noise(purifier["points"][point]) else 1


@torch.no_grad()  # and not in inference mode: a purifier may take gradients of its own
def judge_batch(
    batch: Batch,
    met: Met,
    judge: Callable[[Tensor], Tensor],
    purify: Callable[[Tensor, Noise], Tensor],
    noise: Noise,
    using: models.Denoiser | None,
) -> dict:
    """What becomes of a batch under one threat: the columns of its rows.

    `prediction` is of the purified images: [N], or masks [N,H,W], which are no column.
    """
    seen = batch.images if met.perturbation is None else batch.images + met.perturbation
    purified = purify(seen, noise)
    logits = judge(purified).float()
    change = (seen - batch.images).flatten(1)
    error = using.error if using and using.reconstructs else None
    return {
        "id": batch.ids,
        "threat": met.threat,
        "attack_point": met.point,
        **(_of_pixels if batch.labels.ndim > 1 else _of_images)(logits, batch.labels),
        "mse_before": change.square().mean(1),
        "mse_after": (purified - batch.images).flatten(1).square().mean(1),
        "error_before": error(seen) if error else None,
        "error_after": error(purified) if error else None,
        "l2": change.norm(dim=1),
        "linf": change.abs().amax(1),
        "epsilon": met.epsilon,
    }


def _of_images(logits: Tensor, labels: Tensor) -> dict:
    confidence, prediction = logits.softmax(1).max(1)
    of_label = logits.gather(1, labels[:, None])
    return {
        "label": labels,
        "prediction": prediction,
        "confidence": confidence,
        "label_rank": (logits > of_label).sum(1),
    }


def _of_pixels(logits: Tensor, masks: Tensor) -> dict:
    prediction = logits.argmax(1)
    matrices = confusion(prediction, masks, logits.shape[1])
    return {"prediction": prediction, "confusion": matrices.int()}


def confusion(prediction: Tensor, masks: Tensor, classes: int) -> Tensor:
    """How many pixels of each image are of which class (row) and taken for which (column).

    `prediction` and `masks` are int64 [N,H,W]; pixels without a class are left out: [N,K,K].
    """
    image = torch.arange(len(masks), device=masks.device).view(-1, 1, 1)
    cells = (image * classes + masks) * classes + prediction
    counts = torch.bincount(cells[masks != IGNORED], minlength=len(masks) * classes**2)
    return counts.view(-1, classes, classes)
