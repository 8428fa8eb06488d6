"""The examples stage: a handful of images with what became of them, for figures."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from advdenoise.datasets._source import IGNORED
from advdenoise.distances import Taps
from advdenoise.errors import BadInput
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.provenance import collect_provenance
from advdenoise.noise import Noise
from advdenoise.outputs import NO_CLASS, predicted
from advdenoise.stages import folded, models
from advdenoise.stages.data import Batch, ImageSet, open_images
from advdenoise.stages.evaluate import evaluate_batch
from advdenoise.stages.leave_one_out import segments
from advdenoise.stages.threats import open_threats

_CHANNELS = 4  # of an image's maps: as many as a figure shows


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    output: Path,
    adversarial: Path | None = None,
    denoiser: Path | None = None,
    calibration: Path | None = None,
) -> None:
    """Write some images, as they are, attacked and purified, with predictions.

    They are the split's first of each class in turn. One group per attack point and purifier point
    (`point/purifier_point`): `seen` and `purified` float32 [N,C,H,W] in [0,1], `prediction` and
    `confidence` [N] for the purified images, `seen_probabilities` [N,K] without the purifier;
    `images`, `labels` and `ids` beside them, and the attribute `target`, the class that the attack
    drives all images to, if it has one. Where asked for also superpixel labels int32 [N,H,W] of
    each attribution and point (`superpixels/attribution/point`), and maps of the classifier's
    modules (`point/purifier_point/maps/module`): of each image the channels that the attack
    changes most, the most changed one first (`channels` [N,k]), for the clean, the perturbed
    and the purified image (`clean`, `seen`, `purified` [N,k,H,W]).

    Of a dense image set they are the split's first images; `masks` uint8 [N,H,W] stand in the place
    of `labels`, `prediction` and `seen_prediction` uint8 [N,H,W] in that of the other predictions.
    Where outputs are not finite predictions are -1 and confidences NaN, pixels of masks 255.
    """
    started = time.time()
    device = models.device()
    paths = [adversarial] if adversarial else []
    entry = settings["classifier"]
    with (
        open_images(images) as clean,
        open_threats([settings["threat"]], paths, clean) as threats,
        create_hdf5(output, collect_provenance(settings, started), "examples") as file,
    ):
        _write_target(file, settings["attacks"], clean)
        network = folded.classifier(classifier, entry, clean)
        autoencoder = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
        labels = np.zeros(len(clean)) if clean.dense else clean.labels
        picked = in_turn(labels, settings["images"])
        # A file is read in its own order and its images written in that of the classes.
        batch = clean.batch(np.sort(picked), device)
        order = np.searchsorted(np.sort(picked), picked)
        _write_images(file, clean, batch, order)
        if settings["superpixels"] or settings["maps"]:
            network = models.load_frozen("classifiers", classifier, entry, clean)
        if settings["superpixels"]:
            _write_superpixels(file, settings["superpixels"], network, batch.images[order])
        purifiers = models.purifiers(settings["purifier"], autoencoder, clean, settings["seed"])
        for threat_batch in threats.iter_batches(batch):
            inputs = threat_batch.images
            with torch.no_grad():
                seen_logits = network(inputs).float()
            for name, purify in purifiers.items():
                group = file.create_group(f"{threat_batch.point}/{name}")
                who = (settings["purifier"]["name"], "defender")
                # Streams go on from draw to draw: the same numbers twice need two of them.
                noise, again = (Noise(settings["seed"], batch.ids, *who) for _ in range(2))
                with torch.no_grad():
                    purified = purify(inputs, again)
                _add(group, "seen", inputs, order)
                _add(group, "purified", purified, order)
                if settings["maps"]:
                    versions = {"clean": batch.images, "seen": inputs, "purified": purified}
                    _write_maps(group, network, settings["maps"], versions, order)
                row = evaluate_batch(batch, threat_batch, network, purify, noise, autoencoder)
                if clean.dense:
                    masks = {"seen_prediction": predicted(seen_logits)}
                    masks["prediction"] = row["prediction"]
                    shown = {
                        column: mask.where(mask != NO_CLASS, IGNORED).byte()
                        for column, mask in masks.items()
                    }
                else:
                    shown = {column: row[column] for column in ("prediction", "confidence")}
                    shown["seen_probabilities"] = seen_logits.softmax(1)
                for column, values in shown.items():
                    _add(group, column, values, order)


def in_turn(labels: np.ndarray, count: int) -> np.ndarray:
    """Places of the first image of each class, then of the second of each, and so on: [count]."""
    by_class = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    turn = np.empty(len(labels), dtype=np.int64)
    turn[by_class] = np.arange(len(labels)) - np.repeat(starts, sizes)
    return np.lexsort((labels, turn))[:count]


def _write_images(file, clean: ImageSet, batch: Batch, order: np.ndarray) -> None:
    file.attrs["classes"] = json.dumps(clean.classes)
    _add(file, "images", batch.images, order)
    labels = ("masks", batch.labels.byte()) if clean.dense else ("labels", batch.labels)
    _add(file, *labels, order)
    add_array(file, "ids", batch.ids[order])


def _write_superpixels(file, entries: dict, network: nn.Module, images: Tensor) -> None:
    for name, entry in entries.items():
        group = file.create_group(f"superpixels/{name}")
        for point, settled in entry["points"].items():
            add_array(group, point, segments(settled, network, images), dtype=np.int32)


def _write_target(file, attacks: dict, clean: ImageSet) -> None:
    for attack in attacks.values():
        goal = clean.target_of(attack)
        if goal is not None:
            file.attrs["target"] = goal


@torch.no_grad()
def _write_maps(
    group, network: nn.Module, modules: list[str], versions: dict[str, Tensor], order: np.ndarray
) -> None:
    maps = {}
    with Taps(network, modules, key="examples.maps") as taps:
        for name, images in versions.items():
            network(images)
            maps[name] = taps.take()
    for module in modules:
        clean, inputs = maps["clean"][module], maps["seen"][module]
        if clean.ndim != 4:
            raise BadInput(
                f"examples.maps: module {module!r} gives no maps but an output of shape "
                f"{tuple(clean.shape[1:])} for an image; name a convolution or what follows it"
            )
        change = (inputs - clean).square().flatten(2).sum(2)
        channels = change.argsort(dim=1, descending=True, stable=True)[:, :_CHANNELS]
        subgroup = group.create_group(f"maps/{module}")
        _add(subgroup, "channels", channels, order)
        rows = torch.arange(len(channels), device=channels.device)[:, None]
        for name in versions:
            _add(subgroup, name, maps[name][module][rows, channels].float(), order)


def _add(group, name: str, values: Tensor, order: np.ndarray) -> None:
    add_array(group, name, values.contiguous().cpu().numpy()[order])
