"""The cost stage: time and memory of leave-one-out attributions for one batch of images."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from advdenoise.attributions._loo import LeaveOneOut
from advdenoise.attributions._masks import Masks, masks_of
from advdenoise.attributions._nodes import Nodes
from advdenoise.inference import capacity
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.io.schemas import COST
from advdenoise.stages import models
from advdenoise.stages.columns import Columns
from advdenoise.stages.data import open_images
from advdenoise.stages.leave_one_out import hidden_nodes, leave_one_out_of, segments
from advdenoise.stages.memory import peak_bytes

_NUMBER_BYTES = 4
# What an array's object adds to its numbers: sizes in Al Bared and Nassar 2021 are of objects.
_OBJECT_BYTES = 110
_WARMING = 4  # images: enough for a network's first passes, which are slower than the others


def run(settings: dict, images: Path, classifier: Path, output: Path) -> None:
    """Write what each point of an attribution entry costs, for each representation alone.

    The batch are the first clean images of the split. After a warm-up, superpixels, attributions
    without their reduction (Al Bared and Nassar 2021, section 4, time these two) and interquartile
    ranges are timed apart, each as often as asked for. The classifier's entry is stored with its
    capacity.
    """
    started = time.time()
    device = models.device()
    entry, repetitions = settings["attribution"], settings["repetitions"]
    columns = Columns(COST)
    with open_images(images) as clean:
        network = models.load_frozen("classifiers", classifier, settings["classifier"], clean)
        batch = next(clean.batches(settings["images"], device))
        ways = _ways(settings, network, batch.images[:1])
        for name, point in entry["points"].items():
            labels, segmentation = _segmented(point, network, batch.images, repetitions)
            apart = entry.get("channels") == "apart"
            masks = masks_of(batch.images, labels, entry["masking"], apart)
            for representation, way in ways.items():
                columns.add(
                    repetitions,
                    attribution_point=name,
                    representation=representation,
                    repetition=np.arange(repetitions),
                    images=len(batch.ids),
                    passes=float(masks.counts.mean()),
                    most_passes=int(masks.counts.max()),
                    segmentation_seconds=segmentation,
                    **_measured(way, representation, masks, labels, entry, repetitions),
                )
        about = settings | {"classifier": settings["classifier"] | capacity.capacity(network)}
        write_table(output, columns.table(), collect_provenance(about, started))


def array_bytes(passes: int, images: int, values: int) -> int:
    """Size of all attributions of a batch as one float32 array, a row for each mask.

    `passes` are those of the image with the most masks: the authors' array has as many rows for
    each image (Al Bared and Nassar 2021, Table 7): 2 GB for 1,024 masks, 128 images and 3,810
    values.
    """
    return passes * images * values * _NUMBER_BYTES + _OBJECT_BYTES


def _ways(settings: dict, network: nn.Module, image: Tensor) -> dict[str, LeaveOneOut]:
    """What computes each representation and nothing else; without taps there is no hidden one."""
    nodes = hidden_nodes(settings, network, image)
    outputs = leave_one_out_of(settings, network, Nodes({}, {}), image)
    ways = {"predicted": outputs, "probabilities": outputs}
    if settings["taps"]:
        ways["hidden"] = leave_one_out_of(settings, network, nodes, image)
    return ways


def _segmented(
    point: dict, network: nn.Module, images: Tensor, repetitions: int
) -> tuple[Tensor, np.ndarray]:
    """Superpixel labels [N,H,W], and the seconds that they took each time."""
    labels = segments(point, network, images)
    return labels, _seconds(lambda: segments(point, network, images), repetitions)


def _measured(
    way: LeaveOneOut,
    representation: str,
    masks: Masks,
    labels: Tensor,
    entry: dict,
    repetitions: int,
) -> dict:
    """The columns of one representation; what is run to find the peak warms up as well."""

    def features() -> None:
        way.features(masks.images, labels, entry["masking"], entry["quantile"], masks.per_channel)

    peak = peak_bytes(features, models.device())
    values = _gather(way, representation, masks.part(0, _WARMING))
    return {
        "values": values,
        "array_bytes": array_bytes(int(masks.counts.max()), len(masks.images), values),
        "peak_bytes": peak,
        "passes_seconds": _seconds(lambda: _gather(way, representation, masks), repetitions),
        "features_seconds": _seconds(features, repetitions),
    }


def _gather(way: LeaveOneOut, representation: str, masks: Masks) -> int:
    """Compute every attribution of a representation; how many values an image and mask have."""
    for whole, phi in way.attributions(masks):
        if representation == "predicted":
            phi = phi[-len(whole) :][whole.argmax().view(1)].clone()
    return len(phi)


def _seconds(call: Callable[[], object], repetitions: int) -> np.ndarray:
    """Wall seconds of each of some calls: float64 [repetitions]."""
    seconds = []
    for _ in range(repetitions):
        _wait()
        begin = time.perf_counter()
        call()
        _wait()
        seconds.append(time.perf_counter() - begin)
    return np.array(seconds)


def _wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
