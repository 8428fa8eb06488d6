"""Leave-one-out features: the authors' procedure, full passes, and ours.

    python -m bench.leave_one_out [--images 128] [--rounds 3] [--threads 2] [--share 16]

from the repository's root. The network is the 26-layer CNN with fresh weights; the images are 32x32
crops of photographs, others in each round; the masks are single pixels and SLIC superpixels (64, as
in 2021; segmentation counts in all times); the features are the interquartile ranges of the
predicted class's probability (1-D), of all probabilities (10-D), and of 3,800 hidden nodes and the
probabilities (4K-D). The ways take turns:

- authors: the procedure of the published notebooks, written plainly: masks multiplied onto the
  normalised images in float64, one forward pass of all images for each pixel or segment number,
  each node fetched by itself, np.percentile; the network as written, with torch's own ELU;
- full passes: ours for networks that are no plain stack, masks of many images in each pass;
- ours: the change alone; and the same in as many single-thread processes as there are threads.

The first two do one in `--share` of their passes, and their printed seconds are scaled up. Peak
memory is what a way holds at most beyond what was there (Linux only), in a run that is not timed.
The difference is that of the attributions to those of float64 full passes, on one image and
relative to the largest. The floor is the number of multiply-adds of the changed windows at the rate
at which the machine was just seen to convolve.
"""

import argparse
import copy
import os
import statistics
import time
from dataclasses import dataclass, field
from multiprocessing import get_context

# Spinning threads would charge their waiting to the CPU time.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np  # noqa: E402
import torch  # noqa: E402

from advdenoise.attributions import superpixels
from advdenoise.attributions._loo import LeaveOneOut, representations
from advdenoise.attributions._masks import masks_of
from advdenoise.attributions._nodes import Nodes, draw_nodes, map_shapes
from advdenoise.attributions._windows import Planner
from advdenoise.classifiers.convnets import elu_cnn
from advdenoise.datasets.embedded import patches
from advdenoise.inference.elu import use_fast_elu
from advdenoise.inference.steps import Dense
from advdenoise.stages.memory import peak_bytes

SHAPE, CLASSES = (3, 32, 32), 10
MEAN = 120.70748 / 255
TAPS = [f"layers.{i}" for i in range(6, 25)]
# Batches of images before the first round: our superpixels' windows have some hundred forms, and
# convolutions are compiled for each as it is first seen.
WARMING = {"pixels": 0, "slic": 6}
FEATURES = {"1-D": "predicted", "10-D": "probabilities", "4K-D": "hidden"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Leave-one-out features, three ways.")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--share", type=int, default=16)
    parser.add_argument(
        "--masks", nargs="+", choices=("pixels", "slic"), default=("pixels", "slic")
    )
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=tuple(FEATURES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = World.make(options.images)
    print(f"{options.images} images, {options.threads} threads, {world.device}")
    rate = convolution_rate(world)
    print(f"convolution rate: {rate / 1e9:.0f} GFLOP/s\n")
    print("| masks | features | way | wall s | CPU s | wall ratio | CPU ratio | MB | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with Workers(options.threads, options.images) as workers:
        for masks in options.masks:
            for feature in options.features:
                ways = {
                    "authors": Authors(world, masks, feature, options.share),
                    "full passes": FullPasses(world, masks, feature, options.share),
                    "ours": Ours(world, masks, feature),
                }
                if options.threads > 1 and world.device.type == "cpu":
                    ways[f"ours, {options.threads} processes"] = Apart(
                        workers, world, masks, feature
                    )
                compare(masks, feature, ways, world, options.rounds)
            floor = 2 * changed(world, masks) / rate
            print(f"| {masks} | | floor | {floor:.2f} | | | | | |", flush=True)


@dataclass
class World:
    """Network and nodes, and the images of a round with their superpixels."""

    network: torch.nn.Module
    everything: torch.Tensor
    nodes: Nodes
    count: int
    number: int = field(init=False)
    images: torch.Tensor = field(init=False)

    def __post_init__(self):
        self.turn(0)

    def turn(self, number: int) -> None:
        self.number = number
        start = number * self.count % len(self.everything)
        self.images = self.everything[start : start + self.count]

    @classmethod
    def make(cls, count: int) -> "World":
        torch.manual_seed(0)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = elu_cnn(SHAPE, CLASSES).to(device)
        source = patches()
        mixed = np.random.default_rng(0).permutation(len(source.train_labels))
        images = torch.from_numpy(source.read(mixed)).to(device).float().div_(255)
        images = images[: len(images) // count * count]
        with torch.no_grad():
            for part in images[:1280].split(64):
                network.train()(part)
        network.eval().requires_grad_(False)
        nodes = draw_nodes(0, "cnn", map_shapes(network, TAPS, images[:1]))
        return cls(network, images, nodes, count)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def segments(self, masks: str, count: int) -> np.ndarray:
        """Labels of the first images, computed here and now: their time counts."""
        normalised = self.network.normalise(self.images[:count]).permute(0, 2, 3, 1).cpu().numpy()
        if masks == "pixels":
            return np.stack([superpixels.pixels(image) for image in normalised])
        return np.stack(
            [superpixels.slic(image, n_segments=64, like_2021=True) for image in normalised]
        )

    def fast(self) -> torch.nn.Module:
        """The network as the workflow's jobs use it."""
        network = use_fast_elu(copy.deepcopy(self.network))
        return network.to(memory_format=torch.channels_last)


@dataclass
class Seconds:
    wall: float = 0.0
    cpu: float = 0.0

    def __mul__(self, factor: float) -> "Seconds":
        return Seconds(self.wall * factor, self.cpu * factor)

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


def timed(work) -> tuple[Seconds, object]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), found


class Ours:
    """The change alone."""

    def __init__(self, world: World, masks: str, feature: str):
        self._world, self._masks, self._feature = world, masks, feature
        nodes = world.nodes if feature == "4K-D" else Nodes({}, {})
        self._way = self._made(world.fast(), nodes, world.images[:1])

    def _made(self, network, nodes: Nodes, example: torch.Tensor) -> LeaveOneOut:
        return LeaveOneOut(network, nodes, example)

    def run(self) -> Seconds:
        return timed(lambda: self.features(len(self._world.images)))[0]

    def features(self, count: int) -> torch.Tensor:
        segments = self._world.segments(self._masks, count)
        found = self._way.features(self._world.images[:count], segments, MEAN)
        return representations(*found)[FEATURES[self._feature]]

    def attributions(self) -> torch.Tensor:
        """Those of the first image: [D, masks]."""
        masks = masks_of(self._world.images[:1], self._world.segments(self._masks, 1), MEAN)
        ((_, phi),) = self._way.attributions(masks)
        return phi


class FullPasses(Ours):
    """The same for networks that are no plain stack; on some of the images."""

    def __init__(self, world: World, masks: str, feature: str, share: int):
        super().__init__(world, masks, feature)
        self._count = max(1, len(world.images) // share)

    def _made(self, network, nodes: Nodes, example: torch.Tensor) -> LeaveOneOut:
        return LeaveOneOut(network, nodes, example, by_changes=False)

    def run(self) -> Seconds:
        seconds, _ = timed(lambda: self.features(self._count))
        return seconds * (len(self._world.images) / self._count)


class Truth(FullPasses):
    """Full passes in float64."""

    def __init__(self, world: World, masks: str, feature: str):
        network, images = copy.deepcopy(world.network).double(), world.images.double()
        super().__init__(World(network, images, world.nodes, len(images)), masks, feature, 1)


@dataclass
class Authors:
    """The published notebooks' procedure."""

    world: World
    masks: str
    feature: str
    share: int
    places: list = field(init=False)

    def __post_init__(self):
        self.places = [
            (int(name.partition(".")[2]), *np.unravel_index(index, self.world.nodes.shapes[name]))
            for name, indices in self.world.nodes.indices.items()
            for index in indices
        ]

    @torch.no_grad()
    def run(self) -> Seconds:
        cut, segments = timed(lambda: self.world.segments(self.masks, len(self.world.images)))
        count = int(segments.max()) + 1
        chosen = range(0, count, self.share)
        images = self.world.network.normalise(self.world.images).cpu().numpy()
        whole = self._outputs(images)
        self._predicted = whole[-1].argmax(1).tolist()
        whole = self._nodes(whole)
        passes, found = timed(
            lambda: np.stack([self._attribution(images, segments, i, whole) for i in chosen])
        )
        # As many rows as there are masks, of as many images as were chosen.
        phi = np.resize(found, (count, max(1, len(images) // self.share), found.shape[2]))
        reduced, _ = timed(lambda: self._spread(phi))
        return cut + passes * (count / len(chosen)) + reduced * (len(images) / phi.shape[1])

    def _attribution(self, images, segments, number: int, whole) -> np.ndarray:
        mask = np.where(segments == number, 0.0, 1.0)[:, None]
        return np.abs(self._nodes(self._outputs(images * mask)) - whole)

    def _outputs(self, images: np.ndarray) -> list[torch.Tensor]:
        values = torch.from_numpy(images.astype(np.float32)).to(self.world.device)
        found = []
        for layer in self.world.network.layers:
            values = layer(values)
            found.append(values)
        return [*found, values.softmax(1)]

    def _nodes(self, outputs: list[torch.Tensor]) -> np.ndarray:
        probabilities = outputs[-1].cpu().numpy()
        if self.feature == "10-D":
            return probabilities
        if self.feature == "1-D":
            pairs = zip(probabilities, self._predicted, strict=True)
            return np.array([[row[top]] for row, top in pairs])
        nodes = [outputs[layer][(slice(None), *place)] for layer, *place in self.places]
        return np.concatenate([torch.stack(nodes, 1).cpu().numpy(), probabilities], axis=1)

    def _spread(self, phi: np.ndarray) -> np.ndarray:
        return np.percentile(phi, 75, axis=0) - np.percentile(phi, 25, axis=0)


class Workers:
    """Single-thread processes that each do a part of the images."""

    def __init__(self, count: int, images: int):
        self.count, self.images = count, images

    def __enter__(self) -> "Workers":
        context = get_context("spawn")
        self.barrier = context.Barrier(self.count)
        self.pool = context.Pool(self.count, _start, (self.barrier, self.images))
        return self

    def __exit__(self, *_) -> None:
        self.pool.terminate()
        self.pool.join()


@dataclass
class Apart:
    """Ours in several processes; the slowest one's wall time, and all their CPU time."""

    workers: Workers
    world: World
    masks: str
    feature: str

    def run(self) -> Seconds:
        count = self.workers.count
        tasks = [(self.world.number, i, count, self.masks, self.feature) for i in range(count)]
        found = self.workers.pool.map(_part, tasks, chunksize=1)
        return Seconds(max(each.wall for each in found), sum(each.cpu for each in found))


def _start(barrier, images: int) -> None:
    torch.set_num_threads(1)
    _part.barrier, _part.world = barrier, World.make(images)


def _part(task: tuple[int, int, int, str, str]) -> Seconds:
    turn, number, count, masks, feature = task
    world = copy.copy(_part.world)
    world.turn(turn)
    world.images = world.images[number::count]
    ours = Ours(world, masks, feature)
    _part.barrier.wait()
    return ours.run()


def compare(masks: str, feature: str, ways: dict, world: World, rounds: int) -> None:
    seconds, peaks = {name: [] for name in ways}, {}
    for number in range(rounds, rounds + WARMING[masks]):
        world.turn(number)
        for name in ways:
            if name.startswith("ours"):
                ways[name].run()
    for number in range(rounds):
        world.turn(number)
        for name, way in ways.items():
            seconds[name].append(way.run())
    for name, way in ways.items():  # Apart from the rounds: giving memory back costs time.
        if not isinstance(way, Apart):
            peaks[name] = peak_bytes(way.run, world.device)
    truth = Truth(world, masks, feature).attributions()
    for name, way in ways.items():
        wall, cpu = (
            statistics.median(getattr(s, kind) for s in seconds[name]) for kind in ("wall", "cpu")
        )
        ratios = [
            statistics.median(
                getattr(a, kind) / getattr(b, kind)
                for a, b in zip(seconds["authors"], seconds[name], strict=True)
            )
            for kind in ("wall", "cpu")
        ]
        difference = ""
        if isinstance(way, Ours):
            apart = (way.attributions() - truth).abs().max() / truth.abs().max()
            difference = f"{float(apart):.1e}"
        print(
            f"| {masks} | {feature} | {name} | {wall:.1f} | {cpu:.1f} | {ratios[0]:.1f} | "
            f"{ratios[1]:.1f} | {_megabytes(peaks.get(name))} | {difference} |",
            flush=True,
        )


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f}"


def convolution_rate(world: World) -> float:
    """FLOP/s of the network's convolutions on whole images, the fastest of them."""
    layers = [m for m in world.fast().layers if isinstance(m, torch.nn.Conv2d)]
    best = 0.0
    for layer, side in zip(layers, (32, 32, 16, 16, 8, 8), strict=True):
        maps = torch.rand(128, layer.in_channels, side, side, device=world.device)
        maps = maps.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            layer(maps)
            seconds = min(
                timed(lambda layer=layer, maps=maps: layer(maps))[0].wall for _ in range(7)
            )
        best = max(best, 2 * len(maps) * side**2 * layer.weight.numel() / seconds)
    return best


def changed(world: World, masks: str) -> int:
    """Multiply-adds that masking each segment of each image changes."""
    stack = LeaveOneOut(world.network, Nodes({}, {}), world.images[:1]).stack
    planner = Planner(stack)
    total = 0
    for labels in world.segments(masks, len(world.images)):
        for segment in range(labels.max() + 1):
            spans = []
            for axis, cells in enumerate(np.nonzero(labels == segment)):
                spans.append(planner.span(axis, int(cells.min()), int(cells.max()) + 1).windows)
            total += _multiply_adds(stack, spans)
        if masks == "pixels":  # of which all images have the same
            return total * len(world.images)
    return total


def _multiply_adds(stack, spans) -> int:
    total = 0
    for place, step in enumerate(stack.steps):
        if not step.linear:
            continue
        if isinstance(step, Dense):
            cells = np.prod([stop - start for start, stop in (span[place] for span in spans)])
            total += int(cells) * step.weight.shape[0] * step.weight.shape[3]
            continue
        pairs = 1
        for axis, span in enumerate(spans):
            outputs = np.arange(stack.shapes[place + 1][1 + axis])
            first, last = step.axes[axis].input_range(outputs, outputs + 1)
            start, stop = span[place]
            pairs *= int((np.minimum(last, stop) - np.maximum(first, start)).clip(0).sum())
        total += pairs * step.weight.shape[0] * step.weight.shape[1]
    return total


if __name__ == "__main__":
    main()
