"""Measure the unit costs of a plan on this machine: each thing alone, a few batches each."""

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from advdenoise.calls import call_with
from advdenoise.errors import BadInput
from advdenoise.graph.components import without_first_weights
from advdenoise.graph.sources import load
from advdenoise.inference.fold import fold
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.provenance import collect_provenance
from advdenoise.stages import models
from advdenoise.training._optimisers import Optimiser
from tools.plan import units
from tools.plan.work import (
    BYTE,
    DEVICE,
    FIT,
    FORWARD,
    GRADIENT,
    INNER,
    MAPS,
    PARAMETERS,
    SEGMENTS,
    START,
    STEP,
    UPDATE,
    Thing,
    Use,
)

SCRIPTS = Path(__file__).parents[2] / "scripts"
_REPETITIONS = 5
_SECONDS = 0.5  # a measurement takes about so long, unless one call takes longer
_BYTES = 16 << 20  # written to measure the disk
_ROWS = (200, 800)  # two numbers tell how a fit grows with its rows
_IMAGES = 8  # photographs that superpixels are made of
_LEAST = 8  # images in a batch: fewer would measure what a batch costs by itself


def measure(uses: Iterable[Use], batch: int, folder: Path) -> dict:
    """Costs and facts of each thing by its key; `batch` images at a time where time allows.

    Things that cannot be measured here are printed and left out.
    """
    things: dict[Thing, set[str]] = {}
    for use in uses:
        things.setdefault(use.thing, set()).add(use.what)
    measured = {}
    # The device first: its own first use is measured.
    for thing, whats in sorted(things.items(), key=lambda item: (item[0] != DEVICE, item[0])):
        try:
            measured[thing.key] = _MEASURES[thing.kind](thing, sorted(whats), batch, folder)
        except BadInput as reason:
            print(f"not measured: {thing.key}: {reason}")
            continue
        words = ", ".join(
            f"{what} {1000 * cost['seconds']:.4g} ms"
            for what, cost in measured[thing.key]["costs"].items()
        )
        print(f"{thing.key}: {words}", flush=True)
    return measured


def run(uses: Iterable[Use], batch: int, folder: Path) -> Path:
    """Measure and write the file of this machine's device; returns its path."""
    started = time.time()
    if models.device().type == "cpu":
        torch.set_num_threads(1)
    measured = measure(uses, batch, folder)
    provenance = collect_provenance({"batch": batch, "repetitions": _REPETITIONS}, started)
    return units.write(provenance["device"], measured, provenance, folder)


# ---------------------------------------------------------------- one function per kind of thing


def _network(thing: Thing, whats: list[str], batch: int, folder: Path) -> dict:
    """Seconds an image of each use, as the jobs do it, and the number of values to be stored."""
    # Weights change no cost, and fetching them may.
    entry = {"function": thing.function, "settings": json.loads(thing.settings)}
    entry = without_first_weights(thing.kind, entry)
    *shape, classes = thing.size
    network = models.build(thing.kind, entry, tuple(shape), classes).eval()
    shape = getattr(network, "code_shape", shape)  # a generator takes no images
    stored = sum(tensor.numel() for tensor in network.state_dict().values())
    network = network.to(models.device(), memory_format=torch.channels_last)
    # Before any training, which changes the statistics that the folded copy takes over.
    folded = fold(network) if thing.kind == "classifiers" else network
    calls = {
        FORWARD: lambda images: _forward(folded, images),
        GRADIENT: lambda images: _gradient(folded, images),
        INNER: lambda images: _gradient(network, images),
        UPDATE: lambda images: _loss(network(images)).backward(),
    }
    costs = {}
    for what in sorted(whats, key=_USES.index):
        network.train(what == UPDATE).requires_grad_(what in (UPDATE, STEP))
        if what == STEP:
            costs[what] = _cost(_stepping(network), 1, _on_device)
        else:
            costs[what] = _per_image(calls[what], shape, batch)
    return {PARAMETERS: stored, "costs": costs}


_USES = (FORWARD, GRADIENT, INNER, UPDATE, STEP)


def _forward(network: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        network(images)


def _gradient(network: nn.Module, images: torch.Tensor) -> None:
    images = images.detach().requires_grad_()
    torch.autograd.grad(_loss(network(images)), images)


def _stepping(network: nn.Module) -> Callable[[], None]:
    """A step of Adam, the optimiser with the most state."""
    optimiser = Optimiser(network, {"name": "adam", "lr": 1e-6}, "unit costs")
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return lambda: optimiser.step(1e-6)


def _loss(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.float().square().mean()


def _superpixels(thing: Thing, whats: list[str], batch: int, folder: Path) -> dict:
    """Seconds of one image's label map, and its number of labels, on photographs."""
    function = load("attributions", _entry(thing))
    images = _photographs(thing.size)
    counts = [int(function(image).max()) + 1 for image in images]
    cost = _cost(lambda: [function(image) for image in images], len(images), time.process_time)
    return {SEGMENTS: statistics.fmean(counts), "costs": {MAPS: cost}}


def _photographs(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Crops of embedded photographs, brought to a shape [C,H,W] and standardised: [H,W,C]."""
    source = call_with(load("datasets", {"function": "embedded.patches"}))
    spread = np.linspace(0, len(source.train_labels) - 1, _IMAGES, dtype=np.int64)
    images = torch.from_numpy(source.read(spread)).float()
    if shape[0] == 1:
        images = images.mean(1, keepdim=True)
    images = nn.functional.interpolate(images, tuple(shape[1:]), mode="bilinear")
    images = (images - images.mean()) / images.std()
    return list(images.permute(0, 2, 3, 1).double().numpy())


def _detector(thing: Thing, whats: list[str], batch: int, folder: Path) -> dict:
    """Seconds of a fit on some rows and of scoring a quarter as many, and their growth."""
    generator = np.random.default_rng(0)

    def fitting(rows: int) -> Callable[[], None]:
        truth = np.arange(rows) % 2 == 0
        features = generator.normal(size=(rows, *thing.size)).astype(np.float32)
        features[truth] += 0.5
        function = load("detectors", _entry(thing))

        def fit() -> None:
            detector = call_with(function, seed=0, threads=1)
            detector.fit(features, truth)
            detector.score(features[: rows // 4])

        return fit

    fitting(20)()  # the first call imports and compiles
    few, many = (_cost(fitting(rows), 1, time.process_time) for rows in _ROWS)
    growth = math.log(many["seconds"] / few["seconds"]) / math.log(_ROWS[1] / _ROWS[0])
    return {"costs": {FIT: many | {"rows": _ROWS[1], "power": max(growth, 0.0)}}}


def _script(thing: Thing, whats: list[str], batch: int, folder: Path) -> dict:
    """Seconds from the start of a job's process to its first line."""
    command = [sys.executable, str(SCRIPTS / f"{thing.function}.py"), "--help"]

    def start() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return {"costs": {START: _cost(start, 1, _of_children)}}


def _device(thing: Thing, whats: list[str], batch: int, folder: Path) -> dict:
    """Seconds that the first use of the device takes; in this process it must be the first."""
    seconds = _timed(lambda: torch.zeros(1, device=models.device()).add_(1), _on_device)
    return {"costs": {START: {"seconds": seconds, "factor": 1.0}}}


def _disk(thing: Thing, whats: list[str], batch: int, folder: Path) -> dict:
    """Seconds of a byte, written as the jobs write arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "written_to_measure.h5"
    values = np.random.default_rng(0).integers(0, 64, _BYTES, dtype=np.uint8)

    def write() -> None:
        with create_hdf5(path, {}) as file:
            add_array(file, "values", values.reshape(-1, 1024))

    try:
        return {"costs": {BYTE: _cost(write, _BYTES, time.process_time)}}
    finally:
        path.unlink(missing_ok=True)


_MEASURES = {
    "classifiers": _network,
    "denoisers": _network,
    "attributions": _superpixels,
    "detectors": _detector,
    "scripts": _script,
    "device": _device,
    "disk": _disk,
}


def _entry(thing: Thing) -> dict:
    return {"function": thing.function, "settings": json.loads(thing.settings)}


# ---------------------------------------------------------------- timing


def _on_device() -> float:
    """Wall time on a GPU, CPU time on a CPU, which other processes do not change."""
    if models.device().type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _per_image(call: Callable, shape: list[int], batch: int) -> dict:
    """Seconds an image in batches as large as time allows."""
    device = models.device()

    def images(count: int) -> torch.Tensor:
        batch = torch.rand(count, *shape, device=device)
        return batch.contiguous(memory_format=torch.channels_last)

    pair = images(2)
    call(pair)
    two = _timed(lambda: call(pair), _on_device)
    count = min(batch, max(_LEAST, int(2 * _SECONDS / (_REPETITIONS + 1) / max(two, 1e-9))))
    inputs = images(count)
    return _cost(lambda: call(inputs), count, _on_device)


def _cost(call: Callable[[], None], uses: int, clock: Callable[[], float]) -> dict:
    """Seconds of a use: the median of some calls after a first one, and the factor they differ by.

    A call that takes long by itself is its own measurement.
    """
    times = [_timed(call, clock)]
    if times[0] < _SECONDS:
        rest = min(_REPETITIONS, max(1, int(_SECONDS / max(times[0], 1e-9))))
        times = [_timed(call, clock) for _ in range(rest)]
    middle = statistics.median(times)
    factor = max(statistics.median(max(t / middle, middle / t) for t in times), 1.1)
    return {"seconds": middle / uses, "factor": factor}


def _timed(call: Callable[[], None], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return max(clock() - started, 1e-9)
