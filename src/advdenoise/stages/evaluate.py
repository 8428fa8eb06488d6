"""The evaluate stage: purify in memory, predict, one row per image, threat, point and draw."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from advdenoise.datasets._source import IGNORED
from advdenoise.graph.threats import parse
from advdenoise.io.digests import ids_digest
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.io.schemas import PREDICTIONS, segmentation_schema
from advdenoise.noise import Noise
from advdenoise.outputs import NO_CLASS, finite_rows, label_rank, predicted
from advdenoise.stages import folded, models
from advdenoise.stages.columns import Columns
from advdenoise.stages.data import Batch, open_images
from advdenoise.stages.threats import ThreatBatch, Threats, open_threats

# Columns of what an attack did to an image.
_OF_ATTACKED = (
    *("prediction", "confidence", "label_rank", "mse_before", "mse_after"),
    *("error_before", "error_after", "l2", "linf"),
)
_PLACE = ("threat", "attack_point", "purifier_point")


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

    Of a dense image set they are one confusion matrix for each image, threat, point and draw. Where
    a purified image or its outputs are not finite the prediction is wrong; the file's settings then
    say of how many images (`not_finite`), and at how many an attack had no finite gradient
    (`gradients_not_finite`), by threat and point.
    """
    started = time.time()
    device = models.device()
    with (
        open_images(images) as clean,
        open_threats(settings["threats"], adversarial, clean) as threats,
    ):
        network = folded.classifier(classifier, settings["classifier"], clean)
        autoencoder = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
        purifiers = models.purifiers(settings["purifier"], autoencoder, clean, settings["seed"])
        columns = Columns(segmentation_schema(len(clean.classes)) if clean.dense else PREDICTIONS)
        lost: dict[tuple[str, str, str], set] = {}
        batches = clean.batches(settings["batch"], device)
        for batch in tqdm(batches, desc=f"evaluate {settings['suite']}", disable=None):
            for threat_batch in threats.iter_batches(batch):
                for row in _rows(settings, purifiers, batch, threat_batch, network, autoencoder):
                    place = tuple(row[name] for name in _PLACE)
                    lost.setdefault(place, set()).update(_without_class(row["prediction"], batch))
                    columns.add(len(batch.ids), **_without_skipped(row))
        # For accuracies among the top ones, and to tell when rows are missing.
        about = settings | {"classes": len(clean.classes), "ids": ids_digest(clean.ids)}
        about |= _failures(lost, threats, len(clean))
        write_table(output, columns.table(), collect_provenance(about, started))


def _rows(
    settings: dict, purifiers: dict, batch: Batch, threat_batch: ThreatBatch, classifier, denoiser
) -> Iterator[dict]:
    """The columns of a batch under one threat, for every point and draw.

    An attack with the defender's first draw is judged on that one alone.
    """
    name = settings["purifier"]["name"]
    for point, purify in purifiers.items():
        attack = settings["attacks"].get(parse(threat_batch.threat).attack, {})
        draws = 1 if attack.get("knows_draws") else _draws(settings["purifier"], point)
        for draw in range(draws):
            noise = Noise(settings["seed"], batch.ids, name, "defender", draw=draw)
            row = evaluate_batch(batch, threat_batch, classifier, purify, noise, denoiser)
            yield {"purifier": name, "purifier_point": point, "draw": draw, **row}


def _without_skipped(row: dict) -> dict:
    """The columns, of which images that were not attacked have no prediction and no measure."""
    skipped = row["skipped"]
    if skipped is None or not skipped.any():
        return row
    arrays = {name: row[name].cpu().numpy() for name in _OF_ATTACKED if row.get(name) is not None}
    masked = {name: np.ma.array(array, mask=skipped) for name, array in arrays.items()}
    return row | masked


def _draws(purifier: dict, point: str) -> int:
    """How often a point is evaluated on an image: without `noise` every draw is the same."""
    return purifier.get("draws", 1) if models.draws_noise(purifier["points"][point]) else 1


@torch.no_grad()  # and not in inference mode: a purifier may take gradients of its own
def evaluate_batch(
    batch: Batch,
    threat_batch: ThreatBatch,
    classifier: Callable[[Tensor], Tensor],
    purify: Callable[[Tensor, Noise], Tensor],
    noise: Noise,
    denoiser: models.Denoiser | None,
) -> dict:
    """The columns of a batch under one threat.

    `prediction` is of the purified images: [N], or masks [N,H,W], which are no column; `NO_CLASS`
    where images or outputs are not finite.
    """
    inputs = threat_batch.images
    purified = purify(inputs, noise)
    logits = finite_logits(classifier, purified)
    change = (inputs - batch.images).flatten(1)
    error = denoiser.error if denoiser and denoiser.reconstructs else None
    return {
        "id": batch.ids,
        "threat": threat_batch.threat,
        "attack_point": threat_batch.point,
        **(_of_pixels if batch.labels.ndim > 1 else _of_images)(logits, batch.labels),
        "mse_before": change.square().mean(1),
        "mse_after": (purified - batch.images).flatten(1).square().mean(1),
        "error_before": error(inputs) if error else None,
        "error_after": error(purified) if error else None,
        "l2": change.norm(dim=1),
        "linf": change.abs().amax(1),
        "epsilon": threat_batch.epsilon,
        **threat_batch.facts,
    }


def finite_logits(classifier: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The logits of images [N,C,H,W] in float32, NaN for images that are not finite."""
    logits = classifier(images).float()
    return logits.where(finite_rows(images).view(-1, *[1] * (logits.ndim - 1)), torch.nan)


def _without_class(prediction: Tensor, batch: Batch) -> list[int]:
    """The ids of the images that have no finite output, or a labelled pixel that has none."""
    lost = prediction == NO_CLASS
    if lost.ndim > 1:
        lost = (lost & (batch.labels != IGNORED)).flatten(1).any(1)
    return batch.ids[lost.cpu().numpy()].tolist()


def _failures(lost: dict[tuple[str, str, str], set], threats: Threats, count: int) -> dict:
    """Counts of outputs and gradients that are not finite, for the notes of tables."""
    outputs = [
        dict(zip(_PLACE, place, strict=True)) | {"images": len(ids), "of": count}
        for place, ids in lost.items()
        if ids
    ]
    gradients = [
        dict(zip(_PLACE[:2], place, strict=True)) | {"images": images, "of": count}
        for place, images in threats.gradients_not_finite().items()
        if images
    ]
    failures = {"not_finite": outputs, "gradients_not_finite": gradients}
    return {name: records for name, records in failures.items() if records}


def _of_images(logits: Tensor, labels: Tensor) -> dict:
    prediction = predicted(logits)
    confidence = logits.softmax(1).amax(1)
    return {
        "label": labels,
        "prediction": prediction,
        "confidence": confidence.where(prediction != NO_CLASS, torch.nan),
        "label_rank": label_rank(logits, labels),
    }


def _of_pixels(logits: Tensor, masks: Tensor) -> dict:
    prediction = predicted(logits)
    matrices = confusion(prediction, masks, logits.shape[1])
    return {"prediction": prediction, "confusion": matrices.int()}


def confusion(prediction: Tensor, masks: Tensor, classes: int) -> Tensor:
    """How many pixels of each image are of which class (row) and taken for which (column).

    `prediction` and `masks` are int64 [N,H,W]; pixels without a class are left out: [N,K,K]. A
    pixel that is taken for none (`NO_CLASS`) is an error like any other: it counts as taken for the
    class after its own.
    """
    prediction = prediction.where(prediction != NO_CLASS, (masks + 1) % classes)
    image = torch.arange(len(masks), device=masks.device).view(-1, 1, 1)
    cells = (image * classes + masks) * classes + prediction
    counts = torch.bincount(cells[masks != IGNORED], minlength=len(masks) * classes**2)
    return counts.view(-1, classes, classes)
