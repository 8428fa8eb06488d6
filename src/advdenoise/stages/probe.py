"""The probe stage: what a classifier behind a purifier does on a few images, for flags.

An attack takes for granted that outputs are deterministic but for `noise`, that they are logits, of
each image for itself, and that they change smoothly. Each of these is measured here.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.attacks._predict import margin
from advdenoise.datasets._source import IGNORED
from advdenoise.io.json_files import write_json
from advdenoise.io.provenance import collect_provenance
from advdenoise.noise import Noise
from advdenoise.outputs import predicted
from advdenoise.stages import models
from advdenoise.stages.data import Batch, open_images

IMAGES, DRAWS, POINTS = 64, 5, 100
RADIUS = 4 / 255  # of the points near an image, half of a usual budget
_FEW = 2  # images whose passes are searched for gradients, and that pass alone
_ROUNDING = 1e-5  # of probabilities
_GPU_ROUNDING = 1e-4  # of logits, whose sums have no fixed order there


def run(
    settings: dict,
    images: Path,
    classifier: Path,
    output: Path,
    denoiser: Path | None = None,
    calibration: Path | None = None,
) -> None:
    """Write what `probe_defence` gives of the first images, for each point of the purifier.

    Networks and purifiers are not refused for what other jobs refuse them for.
    """
    started = time.time()
    purifier = settings["purifier"]
    with open_images(images) as clean:
        network = models.load_network("classifiers", classifier, settings["classifier"], clean)
        network.eval().requires_grad_(False).to(models.device())
        known = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
        batch = clean.batch(slice(0, min(IMAGES, len(clean))), models.device())
        points = {
            name: probe_defence(network, models.purifier(point, known), batch, settings["seed"])
            for name, point in purifier["points"].items()
        }
    value = {"points": points, "images": len(batch.ids)}
    write_json(output, value, collect_provenance(settings, started))


@torch.no_grad()  # and not in inference mode: a purifier may take gradients of its own
def probe_defence(
    network: nn.Module, purify: Callable[[Tensor, Noise], Tensor], batch: Batch, seed: int
) -> dict[str, float | bool]:
    """What a network behind a purifier does on a batch, see `reporting.probes`.

    `instability` is the mean over images and `POINTS` points x + U(-`RADIUS`, `RADIUS`) of the
    change of the margin (of masks, of the cross-entropy) over its size, at most 1. It is left out
    where passes with equal noise differ. Source: Pintor et al. 2022, whose attacks' losses are
    replaced by the margin, since a cross-entropy of nearly 0 changes by any factor.
    """

    def logits(images: Tensor, draw: int = 0, rows: slice = slice(None)) -> Tensor:
        noise = Noise(seed, batch.ids[rows], "probe", draw=draw)
        return network(purify(images, noise)).float()

    draws = [logits(batch.images, draw) for draw in range(DRAWS)]
    accuracies = [_accuracy(outputs, batch.labels) for outputs in draws]
    directions = torch.stack([functional.normalize(outputs.flatten(1)) for outputs in draws])
    few = slice(0, min(_FEW, len(batch.ids)))
    hidden = _differ(draws[0], logits(batch.images))
    with _watch_gradients() as gradients:
        logits(batch.images[few], rows=few)
    alone = torch.cat(
        [logits(batch.images[i : i + 1], rows=slice(i, i + 1)) for i in range(few.stop)]
    )
    probe: dict[str, float | bool] = {
        "accuracy_range": max(accuracies) - min(accuracies),
        "logit_distance": _largest((directions[1:] - directions[:1]).norm(dim=-1)),
        "hidden_randomness": hidden,
        "loop": bool(gradients),
        "softmax": _are_probabilities(draws[0]),
        "train_mode": any(module.training for module in network.modules()),
    }
    if not hidden:
        probe["batch_distance"] = _largest((alone - draws[0][few]).abs())
        probe["instability"] = _instability(logits, draws[0], batch, seed)
    return probe


def _instability(
    logits: Callable[[Tensor], Tensor], outputs: Tensor, batch: Batch, seed: int
) -> float:
    noise = Noise(seed, batch.ids, "probe", "points")
    before = _loss(outputs, batch.labels)
    total = torch.zeros_like(before)
    for _ in range(POINTS):
        moved = (batch.images + noise.uniform(batch.images, -RADIUS, RADIUS)).clamp(0, 1)
        change = (_loss(logits(moved), batch.labels) - before).abs() / before.abs().clamp(min=1e-12)
        total += change.nan_to_num(nan=1.0).clamp(max=1)
    return (total / POINTS).mean().item()


def _loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """The margin of each image [N]; of masks the cross-entropy, mean over pixels."""
    if labels.ndim == 1:
        return margin(outputs, labels, targeted=False)
    losses = functional.cross_entropy(outputs, labels, ignore_index=IGNORED, reduction="none")
    return losses.flatten(1).mean(1)


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    labelled = labels != IGNORED if labels.ndim > 1 else torch.ones_like(labels, dtype=torch.bool)
    return (predicted(outputs) == labels)[labelled].float().mean().item()


def _are_probabilities(outputs: Tensor) -> bool:
    inside = (outputs >= -_ROUNDING) & (outputs <= 1 + _ROUNDING)
    return bool(inside.all() and ((outputs.sum(1) - 1).abs() <= _ROUNDING).all())


def _differ(first: Tensor, second: Tensor) -> bool:
    if first.device.type == "cuda":
        return not torch.allclose(first, second, atol=_GPU_ROUNDING, equal_nan=True)
    return not bool(((first == second) | (first.isnan() & second.isnan())).all())


def _largest(values: Tensor) -> float:
    return values.nan_to_num(0, 0, 0).max().item()


@contextmanager
def _watch_gradients() -> Iterator[list[str]]:
    """Notes each gradient that is taken in the block."""
    taken: list[str] = []

    def watched(name: str, function: Callable) -> Callable:
        def call(*arguments, **options):
            taken.append(name)
            return function(*arguments, **options)

        return call

    places = ((torch.autograd, "grad"), (torch.autograd, "backward"), (torch.Tensor, "backward"))
    patches = [mock.patch.object(p, n, watched(n, getattr(p, n))) for p, n in places]
    for patch in patches:
        patch.start()
    try:
        yield taken
    finally:
        for patch in patches:
            patch.stop()
