"""The iqr stage: spread of leave-one-out attributions, all points and representations at once."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from scripts.advdenoise import store
from scripts.advdenoise.attributions._loo import iqr_features, representations
from scripts.advdenoise.attributions._nodes import Nodes, draw, map_shapes, node_outputs
from scripts.advdenoise.components import load
from scripts.advdenoise.schemas import iqr_schema
from scripts.advdenoise.stages import models
from scripts.advdenoise.stages.columns import Columns
from scripts.advdenoise.stages.data import Batch, ImageSet, open_images
from scripts.advdenoise.stages.threats import Met, open_threats


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    output: Path,
    adversarial: Path | None = None,
) -> None:
    """Write the interquartile ranges of one threat's images under one attribution entry."""
    started = time.time()
    device = models.device()
    paths = [adversarial] if adversarial else []
    with (
        open_images(images) as clean,
        open_threats([settings["threat"]], paths, clean, device) as threats,
    ):
        network = models.trained("classifiers", classifier, settings["classifier"], clean)
        nodes = _nodes(settings, network, clean, device)
        columns = Columns(iqr_schema(len(clean.classes), len(nodes) + len(clean.classes)))
        batches = clean.batches(settings["batch"], device)
        with node_outputs(network, nodes) as outputs:
            for batch in tqdm(batches, desc=f"iqr {settings['threat']}", disable=None):
                for met in threats.meet(batch):
                    _add(columns, batch, met, settings, network, outputs, len(clean.classes))
        provenance = store.provenance(settings | {"nodes": nodes.indices}, started)
        store.write_table(output, columns.table(), provenance)


def _nodes(settings: dict, network: nn.Module, clean: ImageSet, device: torch.device) -> Nodes:
    """The hidden nodes, drawn from seed and classifier alone: all threats share them."""
    (first,) = clean.batches(1, device, 1)
    shapes = map_shapes(network, settings["taps"], first.images)
    return draw(settings["seed"], settings["classifier"]["name"], shapes, settings["per_layer"])


def _add(
    columns: Columns,
    batch: Batch,
    met: Met,
    settings: dict,
    network: nn.Module,
    outputs: Callable[[Tensor], Tensor],
    classes: int,
) -> None:
    """The rows of one batch under one threat, for every point of the attribution."""
    entry = settings["attribution"]
    seen = batch.images if met.perturbation is None else batch.images + met.perturbation
    for point, settled in entry["points"].items():
        segments = _segments(settled, network, seen)
        whole, spread = iqr_features(
            seen, segments, outputs, entry["masking"], entry["quantile"], settings["batch"]
        )
        features = representations(whole, spread, classes)
        columns.add(
            len(batch.ids),
            id=batch.ids,
            attack_point=met.point,
            attribution_point=point,
            label=batch.labels,
            prediction=whole[:, -classes:].argmax(1),
            epsilon=met.epsilon,
            success=met.success,
            segments=(segments.flatten(1).amax(1) + 1),
            **features,
        )


def _segments(settled: dict, network: nn.Module, seen: Tensor) -> Tensor:
    """Superpixel labels [N,H,W] of the images in the classifier's own units, not its size."""
    function = load("attributions", settled)
    with torch.inference_mode():
        normalised = network.normalise.scale(seen).permute(0, 2, 3, 1).cpu().numpy()
    return torch.from_numpy(np.stack([function(image) for image in normalised]))
