"""The examples stage: a handful of images with what became of them, for figures."""

import json
import time
from pathlib import Path

import torch

from scripts.advdenoise import store
from scripts.advdenoise.noise import Noise
from scripts.advdenoise.stages import models
from scripts.advdenoise.stages.data import Batch, ImageSet, open_images
from scripts.advdenoise.stages.evaluate import judge_batch
from scripts.advdenoise.stages.threats import open_threats


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    output: Path,
    adversarial: Path | None = None,
    denoiser: Path | None = None,
    calibration: Path | None = None,
) -> None:
    """Write the split's first images, as they are, attacked and purified, with predictions.

    One group per attack point and purifier point (`point/purifier_point`): `seen` and `purified`
    float32 [N,C,H,W] in [0,1], `prediction` and `confidence` [N]; `images`, `labels` and `ids`
    beside them.
    """
    started = time.time()
    device = models.device()
    paths = [adversarial] if adversarial else []
    with (
        open_images(images) as clean,
        open_threats([settings["threat"]], paths, clean, device) as threats,
        store.create_hdf5(output, store.provenance(settings, started), "examples") as file,
    ):
        judge = models.classifier(classifier, settings["classifier"], clean)
        using = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
        (batch,) = clean.batches(settings["images"], device, settings["images"])
        _write_images(file, clean, batch)
        for met in threats.meet(batch):
            seen = batch.images
            if met.perturbation is not None:
                seen = seen + met.perturbation
            for name, point in settings["purifier"]["points"].items():
                purify = models.purifier(point, using)
                group = file.create_group(f"{met.point}/{name}")
                who = (settings["purifier"]["name"], "defender")
                # Streams go on from draw to draw: the same numbers twice need two of them.
                noise, again = (Noise(settings["seed"], batch.ids, *who) for _ in range(2))
                with torch.no_grad():
                    purified = purify(seen, again)
                _add(group, "seen", seen)
                _add(group, "purified", purified)
                row = judge_batch(batch, met, judge, purify, noise, using)
                for column in ("prediction", "confidence"):
                    _add(group, column, row[column])


def _write_images(file, clean: ImageSet, batch: Batch) -> None:
    file.attrs["classes"] = json.dumps(clean.classes)
    _add(file, "images", batch.images)
    _add(file, "labels", batch.labels)
    store.add_array(file, "ids", batch.ids)


def _add(group, name: str, values: torch.Tensor) -> None:
    store.add_array(group, name, values.contiguous().cpu().numpy())
