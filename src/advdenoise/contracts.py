"""Your own functions and networks on a few images: whether they keep the contract of their kind.

What `python -m advdenoise check` runs. Functions of other places than the library are checked, and
networks whose weights come from a file.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise import api
from advdenoise.calls import call_with
from advdenoise.datasets._source import BadSource, Source
from advdenoise.errors import BadInput
from advdenoise.graph import components
from advdenoise.graph.sections.common import point_key
from advdenoise.graph.sources import existing, is_own, load
from advdenoise.io.checkpoints import load_checkpoint
from advdenoise.stages import models
from advdenoise.stages.repeats import check_network

_IMAGES = 4
_TOLERANCE = 1e-4  # of results for an image alone and beside others
_WEIGHTED = ("classifiers", "denoisers")


class Sample(NamedTuple):
    """The first images of a data set, float32 [N,C,H,W] in [0,1]; labels int64 [N]; classes."""

    images: Tensor
    labels: Tensor
    classes: int


def check(config: Any) -> Iterator[tuple[str, str | None]]:
    """Every own function of an effective configuration: its key, and what is wrong with it or None.

    Each is tried on one data set that its entry is for. Training steps, tables and figures are
    read by the configuration and not run here.
    """
    samples: dict[str, Sample] = {}
    for kind, checks in _CHECKS.items():
        for name, entry in config[kind].items():
            points = entry.get("points", {"default": entry})
            for point_name, point in points.items():
                if not _is_own(kind, point):
                    continue
                key = point_key(f"{kind}.{name}", points, point_name)
                try:
                    dataset = name if kind == "datasets" else _dataset(config, entry)
                    if dataset not in samples:
                        samples[dataset] = _sample(config, dataset)
                    checks(entry | point | {"name": name}, samples[dataset])
                except BadInput as mistake:
                    yield key, str(mistake)
                else:
                    yield key, None


def _is_own(kind: str, point: dict) -> bool:
    return is_own(point["function"]) or (kind in _WEIGHTED and "weights" in point)


def _dataset(config: dict, entry: dict) -> str:
    """The first data set that an entry is for."""
    return next(iter(entry.get("datasets", config["datasets"])))


def _sample(config: dict, name: str) -> Sample:
    entry = config["datasets"][name]
    root = Path(os.path.expanduser(config["data_root"])) if config["data_root"] else None
    try:
        source = call_with(load("datasets", entry), root=root)
        if not isinstance(source, Source):
            raise BadSource(f"must return a Source, but returns a {type(source).__name__}")
        ids = np.arange(_IMAGES)
        images = source.images(ids)
        if not np.array_equal(source.images(ids[::-1].copy())[::-1], images):
            raise BadSource("`read` must give images in the order of the ids, the same each time")
        labels = source.labels(ids)
    except BadSource as mistake:
        raise BadInput(f"datasets.{name}: {entry['function']}: {mistake}") from mistake
    return Sample(
        torch.from_numpy(images).float() / 255, torch.from_numpy(labels), len(source.classes)
    )


def _dataset_itself(entry: dict, sample: Sample) -> None:
    """What its sample has been read for."""


def _network(kind: str) -> Callable[[dict, Sample], None]:
    def check_one(entry: dict, sample: Sample) -> None:
        """Its weights fit, it gives one result for an image, and a gradient."""
        shape = tuple(sample.images.shape[1:])
        network = models.build(
            kind, components.without_first_weights(kind, entry), shape, sample.classes
        )
        key = f"{kind}.{entry['name']}"
        if "weights" in entry:
            what = f"the network of {entry['function']}"
            load_checkpoint(network, existing(entry["weights"]), f"{key}.weights", what)
        if hasattr(network, "codes"):  # a generator takes no images
            return
        network.eval().requires_grad_(False)
        check_network(key, network, sample.images)
        outputs = network(sample.images)
        if kind == "denoisers" and outputs.shape != sample.images.shape:
            raise BadInput(f"{key}: gives {_words(outputs)} for {_words(sample.images)}")
        if kind == "denoisers":
            _check_range(key, outputs)
        inputs = sample.images.clone().requires_grad_()
        total = network(inputs).square().sum()
        if not total.requires_grad or not torch.autograd.grad(total, inputs)[0].any():
            raise BadInput(f"{key}: has no gradient, which attacks follow; compute it with torch")

    return check_one


def _attack(entry: dict, sample: Sample) -> None:
    """A perturbation inside the ball and [0,1], the same for equal noise and in any batch."""
    settings = {**entry["settings"]}
    signature = components.signature_of("attacks", entry)
    if "epsilon" in signature.settings:
        settings.setdefault("epsilon", 8 / 255)
    attack = api.Attack(entry["function"], **settings)
    model = _Smooth(sample)
    purifier = None
    if {"denoise", "error"} & {*signature.injected}:
        purifier = api.Purifier("basic.direct", _Blur())

    def run(batch: int) -> Tensor:
        return attack(
            model, sample.images, sample.labels, purifier=purifier, batch=batch
        ).perturbations

    _check_alike(attack, run)


def _purifier(entry: dict, sample: Sample) -> None:
    """Images in [0,1] of the same shape, the same for equal noise and in any batch."""
    injected = components.signature_of("purifiers", entry).injected
    if "generate" in injected:
        return
    denoiser = _Blur() if {"denoise", "error", "calibration"} & {*injected} else None
    calibration = {"mean": 0.5, "deviation": 0.2} if "calibration" in injected else None
    settings = entry["settings"]
    purifier = api.Purifier(entry["function"], denoiser, calibration=calibration, **settings)
    _check_range(repr(purifier), purifier(sample.images))
    _check_alike(purifier, lambda batch: purifier(sample.images, batch=batch))


def _attribution(entry: dict, sample: Sample) -> None:
    """Whole numbers [H,W] from 0 without gaps."""
    function = load("attributions", entry)
    image = sample.images[0].permute(1, 2, 0).numpy()
    labels = np.asarray(function(image))
    if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu":
        raise BadInput(
            f"{entry['function']}: gives {labels.dtype} {list(labels.shape)}; segments are whole "
            f"numbers {list(image.shape[:2])}"
        )
    if not np.array_equal(np.unique(labels), np.arange(labels.max() + 1)):
        raise BadInput(f"{entry['function']}: numbers segments with gaps; count them from 0")


def _detector(entry: dict, sample: Sample) -> None:
    """Finite scores, the same each time, higher for what is far from the clean rows."""
    draw = np.random.default_rng(0)
    is_adversarial = np.arange(60) % 2 == 1
    features = draw.normal(size=(60, 3)).astype(np.float32) + 3 * is_adversarial[:, None]
    scores = [
        api.Detector(entry["function"], **entry["settings"])
        .fit(features[:40], is_adversarial[:40])
        .score(features[40:])
        for _ in range(2)
    ]
    if scores[0].shape != (20,) or not np.isfinite(scores[0]).all():
        raise BadInput(f"{entry['function']}: `score` must give a finite number for each row")
    if not np.array_equal(scores[0], scores[1]):
        raise BadInput(f"{entry['function']}: scores differ between two runs; draw from `seed`")
    if scores[0][is_adversarial[40:]].mean() <= scores[0][~is_adversarial[40:]].mean():
        raise BadInput(f"{entry['function']}: a higher score must mean more adversarial")


def _check_range(key: str, images: Tensor) -> None:
    if not images.isfinite().all() or images.min() < -1e-6 or images.max() > 1 + 1e-6:
        low, high = images.aminmax()
        raise BadInput(
            f"{key}: gives values in [{low:.3g}, {high:.3g}]; images lie in [0,1], so clamp them"
        )


def _check_alike(name, run: Callable[[int], Tensor]) -> None:
    """A result for each image alone is that for all together."""
    together = run(_IMAGES)
    if not torch.equal(run(_IMAGES), together):
        raise BadInput(f"{name!r}: gives two results for one noise; draw from `noise` alone")
    if not torch.allclose(run(1), together, atol=_TOLERANCE):
        raise BadInput(
            f"{name!r}: gives another result for an image alone than beside others; treat images "
            "one by one, and draw from `noise`, which has a stream for each"
        )


def _words(images: Tensor) -> str:
    return "x".join(map(str, images.shape))


class _Smooth(nn.Module):
    """A small random classifier without kinks."""

    def __init__(self, sample: Sample):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        pixels = sample.images[0].numel()
        self.first = nn.Parameter(torch.randn(pixels, 16, generator=generator) / 5)
        self.last = nn.Parameter(torch.randn(16, sample.classes, generator=generator) / 5)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ self.first) @ self.last


class _Blur(nn.Module):
    """A denoiser of images in [0,1]."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, 3, 1, padding=1, count_include_pad=False).clamp(0, 1)


_CHECKS = {
    "datasets": _dataset_itself,
    **{kind: _network(kind) for kind in _WEIGHTED},
    "attacks": _attack,
    "purifiers": _purifier,
    "attributions": _attribution,
    "detectors": _detector,
}
