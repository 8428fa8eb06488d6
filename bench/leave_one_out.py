"""Leave-one-out features: the authors' procedure, full passes and ours compared.

    python -m bench.leave_one_out [--images 128] [--rounds 3] [--threads 2] [--share 16]

from the repository's root. The network is the randomly initialised 26-layer CNN; the images are
32x32 crops of photographs, others in each round; the masks are single pixels and SLIC superpixels
(64, as in 2021; all times include the segmentation); the features are the interquartile ranges of
the predicted class's probability (1-D), of all probabilities (10-D), and of 3,800 hidden nodes and
the probabilities (4K-D). Compared, in turn, are:

- authors: the procedure of the published notebooks: masks are multiplied with the normalised images
  in float64, with one forward pass of all images for each pixel or segment number, indexing of each
  node and np.percentile; the network is unchanged, with torch's own ELU;
- full passes: ours for networks that are not sequential, with masks of many images in each pass;
- ours: only the changed windows; and the same in as many single-thread processes as threads.

The first two do one in `--share` of their passes, and their printed seconds are scaled up. Peak
memory is measured in a run that is not timed (Linux only). The difference is the largest one of the
attributions of an image to those of float64 full passes, relative to the largest attribution. The
floor is the time of the multiply-adds of the changed windows at the measured rate of this machine's
convolutions.
"""

import argparse
import copy
import os
import statistics
import time
from dataclasses import dataclass, field
from multiprocessing import get_context

# The waiting of spinning threads would count as CPU time.
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
# Rounds to warm up with: windows of superpixels have some hundred shapes, and convolutions are
# compiled at the first use of each.
WARM_UP = {"pixels": 0, "slic": 6}
FEATURES = {"1-D": "predicted", "10-D": "probabilities", "4K-D": "hidden"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    setting = Setting.create(options.images)
    print(f"{options.images} images, {options.threads} threads, {setting.device}")
    rate = convolution_rate(setting)
    print(f"convolution rate: {rate / 1e9:.0f} GFLOP/s\n")
    columns = ["masks", "features", "method", "wall s", "CPU s", "wall ratio", "CPU ratio"]
    columns += ["MB", "difference"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    with Workers(options.threads, options.images) as workers:
        for masks in options.masks:
            for feature in options.features:
                methods = {
                    "authors": Authors(setting, masks, feature, options.share),
                    "full passes": FullPasses(setting, masks, feature, options.share),
                    "ours": Ours(setting, masks, feature),
                }
                if options.threads > 1 and setting.device.type == "cpu":
                    methods[f"ours, {options.threads} processes"] = InProcesses(
                        workers, setting, masks, feature
                    )
                compare(masks, feature, methods, setting, options.rounds)
            floor = 2 * changed_multiply_adds(setting, masks) / rate
            print(f"| {masks} | | floor | {floor:.2f} | | | | | |", flush=True)


@dataclass
class Setting:
    """The network and its nodes, and the images of a round with their superpixels."""

    network: torch.nn.Module
    all_images: torch.Tensor
    nodes: Nodes
    count: int
    number: int = field(init=False)
    images: torch.Tensor = field(init=False)

    def __post_init__(self):
        self.start_round(0)

    def start_round(self, number: int) -> None:
        """Take the next images."""
        self.number = number
        start = number * self.count % len(self.all_images)
        self.images = self.all_images[start : start + self.count]

    @classmethod
    def create(cls, count: int) -> "Setting":
        torch.manual_seed(0)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = elu_cnn(SHAPE, CLASSES).to(device)
        source = patches()
        order = np.random.default_rng(0).permutation(len(source.train_labels))
        images = torch.from_numpy(source.read(order)).to(device).float().div_(255)
        images = images[: len(images) // count * count]
        with torch.no_grad():
            for batch in images[:1280].split(64):
                network.train()(batch)
        network.eval().requires_grad_(False)
        nodes = draw_nodes(0, "cnn", map_shapes(network, TAPS, images[:1]))
        return cls(network, images, nodes, count)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def segments(self, masks: str, count: int) -> np.ndarray:
        """Segment labels of the first images, which are computed in each call to be timed."""
        normalised = self.network.normalise(self.images[:count]).permute(0, 2, 3, 1).cpu().numpy()
        if masks == "pixels":
            return np.stack([superpixels.pixels(image) for image in normalised])
        return np.stack(
            [superpixels.slic(image, n_segments=64, like_2021=True) for image in normalised]
        )

    def fast(self) -> torch.nn.Module:
        """The network as in the workflow's jobs."""
        network = use_fast_elu(copy.deepcopy(self.network))
        return network.to(memory_format=torch.channels_last)


@dataclass
class Seconds:
    """Wall and CPU time."""

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
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


class Ours:
    """Only the changed windows."""

    def __init__(self, setting: Setting, masks: str, feature: str):
        self._setting, self._masks, self._feature = setting, masks, feature
        nodes = setting.nodes if feature == "4K-D" else Nodes({}, {})
        self._leave_one_out = self._create(setting.fast(), nodes, setting.images[:1])

    def _create(self, network, nodes: Nodes, example: torch.Tensor) -> LeaveOneOut:
        return LeaveOneOut(network, nodes, example)

    def run(self) -> Seconds:
        return timed(lambda: self.features(len(self._setting.images)))[0]

    def features(self, count: int) -> torch.Tensor:
        segments = self._setting.segments(self._masks, count)
        features = self._leave_one_out.features(self._setting.images[:count], segments, MEAN)
        return representations(*features)[FEATURES[self._feature]]

    def attributions(self) -> torch.Tensor:
        """The attributions of the first image: [D, masks]."""
        masks = masks_of(self._setting.images[:1], self._setting.segments(self._masks, 1), MEAN)
        ((_, phi),) = self._leave_one_out.attributions(masks)
        return phi


class FullPasses(Ours):
    """The method for networks that are not sequential, on a part of the images."""

    def __init__(self, setting: Setting, masks: str, feature: str, share: int):
        super().__init__(setting, masks, feature)
        self._count = max(1, len(setting.images) // share)

    def _create(self, network, nodes: Nodes, example: torch.Tensor) -> LeaveOneOut:
        return LeaveOneOut(network, nodes, example, by_changes=False)

    def run(self) -> Seconds:
        seconds, _ = timed(lambda: self.features(self._count))
        return seconds * (len(self._setting.images) / self._count)


class Reference(FullPasses):
    """Full passes in float64."""

    def __init__(self, setting: Setting, masks: str, feature: str):
        network, images = copy.deepcopy(setting.network).double(), setting.images.double()
        super().__init__(Setting(network, images, setting.nodes, len(images)), masks, feature, 1)


@dataclass
class Authors:
    """The procedure of the published notebooks."""

    setting: Setting
    masks: str
    feature: str
    share: int
    node_indices: list = field(init=False)

    def __post_init__(self):
        self.node_indices = [
            (int(name.partition(".")[2]), *np.unravel_index(index, self.setting.nodes.shapes[name]))
            for name, indices in self.setting.nodes.indices.items()
            for index in indices
        ]

    @torch.no_grad()
    def run(self) -> Seconds:
        size = len(self.setting.images)
        segmentation, segments = timed(lambda: self.setting.segments(self.masks, size))
        count = int(segments.max()) + 1
        numbers = range(0, count, self.share)
        images = self.setting.network.normalise(self.setting.images).cpu().numpy()
        outputs = self._outputs(images)
        self._predicted = outputs[-1].argmax(1).tolist()
        nodes = self._nodes(outputs)
        passes, part = timed(
            lambda: np.stack([self._attribution(images, segments, i, nodes) for i in numbers])
        )
        # As many rows as masks, for a part of the images
        phi = np.resize(part, (count, max(1, len(images) // self.share), part.shape[2]))
        reduction, _ = timed(lambda: self._spread(phi))
        scaled = passes * (count / len(numbers)) + reduction * (len(images) / phi.shape[1])
        return segmentation + scaled

    def _attribution(self, images, segments, number: int, nodes) -> np.ndarray:
        mask = np.where(segments == number, 0.0, 1.0)[:, None]
        return np.abs(self._nodes(self._outputs(images * mask)) - nodes)

    def _outputs(self, images: np.ndarray) -> list[torch.Tensor]:
        values = torch.from_numpy(images.astype(np.float32)).to(self.setting.device)
        outputs = []
        for layer in self.setting.network.layers:
            values = layer(values)
            outputs.append(values)
        return [*outputs, values.softmax(1)]

    def _nodes(self, outputs: list[torch.Tensor]) -> np.ndarray:
        probabilities = outputs[-1].cpu().numpy()
        if self.feature == "10-D":
            return probabilities
        if self.feature == "1-D":
            pairs = zip(probabilities, self._predicted, strict=True)
            return np.array([[row[top]] for row, top in pairs])
        nodes = [outputs[layer][(slice(None), *index)] for layer, *index in self.node_indices]
        return np.concatenate([torch.stack(nodes, 1).cpu().numpy(), probabilities], axis=1)

    def _spread(self, phi: np.ndarray) -> np.ndarray:
        return np.percentile(phi, 75, axis=0) - np.percentile(phi, 25, axis=0)


class Workers:
    """Single-thread processes with a part of the images each."""

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
class InProcesses:
    """Ours in several processes: the longest wall time, and the sum of CPU times."""

    workers: Workers
    setting: Setting
    masks: str
    feature: str

    def run(self) -> Seconds:
        count = self.workers.count
        tasks = [(self.setting.number, i, count, self.masks, self.feature) for i in range(count)]
        times = self.workers.pool.map(_run_part, tasks, chunksize=1)
        return Seconds(max(each.wall for each in times), sum(each.cpu for each in times))


def _start(barrier, images: int) -> None:
    torch.set_num_threads(1)
    _run_part.barrier, _run_part.setting = barrier, Setting.create(images)


def _run_part(task: tuple[int, int, int, str, str]) -> Seconds:
    round_number, number, count, masks, feature = task
    setting = copy.copy(_run_part.setting)
    setting.start_round(round_number)
    setting.images = setting.images[number::count]
    ours = Ours(setting, masks, feature)
    _run_part.barrier.wait()
    return ours.run()


def compare(masks: str, feature: str, methods: dict, setting: Setting, rounds: int) -> None:
    seconds, peaks = {name: [] for name in methods}, {}
    for number in range(rounds, rounds + WARM_UP[masks]):
        setting.start_round(number)
        for name in methods:
            if name.startswith("ours"):
                methods[name].run()
    for number in range(rounds):
        setting.start_round(number)
        for name, method in methods.items():
            seconds[name].append(method.run())
    for name, method in methods.items():  # Not in the rounds: measuring memory takes time.
        if not isinstance(method, InProcesses):
            peaks[name] = peak_bytes(method.run, setting.device)
    reference = Reference(setting, masks, feature).attributions()
    for name, method in methods.items():
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
        if isinstance(method, Ours):
            largest = (method.attributions() - reference).abs().max() / reference.abs().max()
            difference = f"{float(largest):.1e}"
        print(
            f"| {masks} | {feature} | {name} | {wall:.1f} | {cpu:.1f} | {ratios[0]:.1f} | "
            f"{ratios[1]:.1f} | {_megabytes(peaks.get(name))} | {difference} |",
            flush=True,
        )


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f}"


def convolution_rate(setting: Setting) -> float:
    """FLOP/s of the fastest of the network's convolutions on full images."""
    layers = [m for m in setting.fast().layers if isinstance(m, torch.nn.Conv2d)]
    best = 0.0
    for layer, side in zip(layers, (32, 32, 16, 16, 8, 8), strict=True):
        maps = torch.rand(128, layer.in_channels, side, side, device=setting.device)
        maps = maps.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            layer(maps)
            seconds = min(
                timed(lambda layer=layer, maps=maps: layer(maps))[0].wall for _ in range(7)
            )
        best = max(best, 2 * len(maps) * side**2 * layer.weight.numel() / seconds)
    return best


def changed_multiply_adds(setting: Setting, masks: str) -> int:
    """Multiply-adds that change when each segment of each image is masked."""
    stack = LeaveOneOut(setting.network, Nodes({}, {}), setting.images[:1]).stack
    planner = Planner(stack)
    total = 0
    for labels in setting.segments(masks, len(setting.images)):
        for segment in range(labels.max() + 1):
            spans = []
            for axis, cells in enumerate(np.nonzero(labels == segment)):
                spans.append(planner.span(axis, int(cells.min()), int(cells.max()) + 1).windows)
            total += _multiply_adds(stack, spans)
        if masks == "pixels":  # the same for all images
            return total * len(setting.images)
    return total


def _multiply_adds(stack, spans) -> int:
    """Multiply-adds of the windows `spans` of all steps."""
    total = 0
    for i, step in enumerate(stack.steps):
        if not step.linear:
            continue
        if isinstance(step, Dense):
            cells = np.prod([stop - start for start, stop in (span[i] for span in spans)])
            total += int(cells) * step.weight.shape[0] * step.weight.shape[3]
            continue
        pairs = 1
        for axis, span in enumerate(spans):
            outputs = np.arange(stack.shapes[i + 1][1 + axis])
            first, last = step.axes[axis].input_range(outputs, outputs + 1)
            start, stop = span[i]
            pairs *= int((np.minimum(last, stop) - np.maximum(first, start)).clip(0).sum())
        total += pairs * step.weight.shape[0] * step.weight.shape[1]
    return total


if __name__ == "__main__":
    main()
