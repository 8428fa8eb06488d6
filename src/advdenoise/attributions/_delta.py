"""Leave-one-out by sending the change alone through the network.

A masked segment changes a window of each map, small in the early ones. The clean maps are computed
once; then, for many segments at a time, the window's change goes from step to step: linear steps
take the change itself, the others the clean window plus the change. It is exact up to rounding,
and more so than the difference of two full passes, which cancels.

`_stack` says what the steps are, `_windows` which window each of them sees; here they are run.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from advdenoise.attributions._masks import Masks
from advdenoise.attributions._nodes import Nodes, finite
from advdenoise.attributions._quantiles import last_rank
from advdenoise.attributions._windows import Plan, Planner, Run
from advdenoise.inference.stack import Source, Stack
from advdenoise.inference.steps import Affine, Dense, Step
from advdenoise.ops.devices import full_precision

# Masks in one call of a step: enough to be fast, few enough that their maps stay in the cache.
MOST = {"cpu": 128, "cuda": 8192}
# Bytes that the clean maps and the attributions of the images at hand may take.
MEMORY = {"cpu": 128 << 20, "cuda": 4 << 30}
# The windows of the images begin and end at multiples of these, so that more masks share one:
# single pixels in blocks of 2x2, larger segments, whose windows differ more, more coarsely.
GRID = {"pixels": 2, "segments": 8}


class Delta:
    """Attributions of the nodes and probabilities of a network that is a stack.

    With `rounded` probabilities become float32 before they are subtracted.
    """

    def __init__(self, stack: Stack, nodes: Nodes, rounded: bool = False):
        self.stack = stack
        self._kind = torch.float32 if rounded else torch.float64
        self._planner = Planner(stack)
        self._taps = _taps(stack, nodes)
        self._width = len(nodes) + stack.shapes[-1][0]
        # Clean maps are needed where changes become values or values changes, and for the nodes.
        kinds = [True, *(step.linear for step in stack.steps)]
        kept = {place for place, (a, b) in enumerate(pairwise(kinds)) if a != b}
        self._kept = kept | {0, len(stack.steps), *(tap.source.place for tap in self._taps)}

    def certain_zeros(self, rule: str, apart: bool) -> np.ndarray:
        """Which nodes have an IQR of 0 whatever the image, if single pixels are masked: bool.

        A node's phi is 0 for each pixel outside its receptive field. Where the field is so small
        that the upper quartile is among these, so is the lower.
        """
        channels, height, width = self.stack.shapes[0]
        each = channels if apart else 1
        least = height * width * each - 1 - last_rank(height * width * each, rule)
        zero = np.zeros(self._width - self.stack.shapes[-1][0], bool)
        for tap in self._taps:
            rows, columns = (
                np.diff(self._planner.fields(tap.source.place, axis)[:, cells], axis=0)[0]
                for axis, cells in enumerate((tap.y, tap.x))
            )
            zero[tap.columns] = rows * columns * each <= least
        return zero

    def attributions(self, masks: Masks) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each image its probabilities [classes] and phi [D, masks].

        D are the nodes, in their order, and the probabilities.

        Raises:
            BadInput: where an output is not finite.
        """
        grid = GRID["pixels" if masks.are_pixels else "segments"]
        for part in self._parts(masks, grid):
            yield from self._part(part, grid)

    def _parts(self, masks: Masks, grid: int) -> Iterator[Masks]:
        """Images that together fill the memory meant for them."""
        shapes = self.stack.shapes
        plan = Plan(self._planner, masks, grid)
        # Between two legs, what comes from one and what goes into the next.
        cuts = [plan.sizes(leg.stop).prod(0) * shapes[leg.stop][0] for leg in self._planner.legs]
        between = np.max([a + b for a, b in pairwise([np.zeros_like(cuts[0]), *cuts])], axis=0)
        ends = np.cumsum(masks.counts)
        maps = sum(math.prod(shapes[place]) for place in self._kept)
        needed = np.add.reduceat(between + self._width, ends - masks.counts) + maps
        memory = MEMORY[masks.images.device.type] // masks.images.element_size()
        start, size = 0, 0
        for image, more in enumerate(needed.tolist()):
            if size and size + more > memory:
                yield masks.part(start, image)
                start, size = image, 0
            size += more
        yield masks.part(start, len(needed))

    @torch.inference_mode()
    @full_precision()
    def _part(self, masks: Masks, grid: int) -> list[tuple[Tensor, Tensor]]:
        last = len(self.stack.steps)
        maps = enumerate(self.stack.maps(masks.images.permute(0, 2, 3, 1).contiguous()))
        clean = _Clean(masks, {place: each for place, each in maps if place in self._kept})
        readers = [_Reader(tap, clean.maps[tap.source.place]) for tap in self._taps]
        probabilities = finite(clean.maps[last].flatten(1)).softmax(1)
        phi = probabilities.new_empty(int(masks.counts.sum()), self._width)
        plan = Plan(self._planner, masks, grid)
        before = None
        for leg in self._planner.legs:
            after = _Between(plan.sizes(leg.stop))
            for runs in plan.batches(leg, MOST[phi.device.type]):
                batch = _Batch(clean, runs, leg.start, before, self._are_changes(leg.start))
                for place in leg:
                    batch.read(place, readers, phi)
                    batch.advance(place, self.stack.steps[place])
                if leg.stop < last:
                    after.put(batch)
                else:
                    batch.read(last, readers, phi)
                    batch.read_probabilities(last, phi, self._kind)
            before = after
        parts = phi.split(masks.counts.tolist())
        return [(whole, part.T) for whole, part in zip(probabilities, parts, strict=True)]

    def _are_changes(self, place: int) -> bool:
        """Whether a map is made as changes, not as values."""
        return place == 0 or self.stack.steps[place - 1].linear


@dataclass(frozen=True, eq=False)
class _Clean:
    """Some images and their maps [N, H, W, C], by number."""

    masks: Masks
    maps: dict[int, Tensor]
    segments: Tensor = field(init=False)

    def __post_init__(self):
        labels = torch.from_numpy(self.masks.segments).to(self.masks.images.device)
        object.__setattr__(self, "segments", labels)


class _Between:
    """The windows of one map of all masks, between two legs.

    Args:
        sizes: height and width of each mask's window [2, masks].
    """

    def __init__(self, sizes: np.ndarray):
        self._sizes = sizes
        self._places = np.empty(sizes.shape[1], np.int64)
        self._maps = {}
        self._counts = {}
        for size in np.unique(sizes, axis=1).T:
            alike = (sizes == size[:, None]).all(0)
            self._places[alike] = np.arange(alike.sum())
            self._counts[tuple(size)] = int(alike.sum())

    def put(self, batch: "_Batch") -> None:
        size = tuple(self._sizes[:, batch.numbers[0]])
        if size not in self._maps:
            shape = self._counts[size], *batch.maps.shape[1:]
            self._maps[size] = batch.maps.new_empty(shape)
        self._maps[size].index_copy_(0, self._at(batch), batch.maps)

    def take(self, batch: "_Batch") -> Tensor:
        maps = self._maps[tuple(self._sizes[:, batch.numbers[0]])]
        return maps.index_select(0, self._at(batch).to(maps.device))

    def _at(self, batch: "_Batch") -> Tensor:
        return torch.from_numpy(self._places[batch.numbers])


class _Batch:
    """Masks that take the steps together: their windows' changes, or their values.

    `maps` is [masks, h, w, C], `numbers` the masks' numbers. The masks of a run follow each other,
    image by image.
    """

    def __init__(
        self,
        clean: _Clean,
        runs: list[Run],
        place: int,
        before: _Between | None,
        are_changes: bool,
    ):
        self._clean = clean
        self._runs = runs
        self._sizes = [run.numbers.size for run in runs]
        self._are_changes = are_changes
        self.numbers = np.concatenate([run.numbers.ravel() for run in runs])
        if before is None:
            self.maps = torch.cat([self._first(run) for run in runs])
        else:
            self.maps = before.take(self)

    def advance(self, place: int, step: Step) -> None:
        """From map number `place` to the next."""
        if step.linear != self._are_changes:
            self._switch(place)
        if isinstance(step, Dense):
            parts = [step.window(part, *run.window(place)) for run, part in self._parts()]
            self.maps = torch.cat(parts)
        else:
            run = self._runs[0]
            self.maps = step.window(self.maps, (run.rows.pads[place], run.columns.pads[place]))
        self._are_changes = step.linear

    def read(self, place: int, readers: list["_Reader"], phi: Tensor) -> None:
        """Put |phi| of the nodes that are read from this map into their rows and columns."""
        for reader in readers:
            if reader.tap.source.place == place:
                found = [reader.read(run, part, self._are_changes) for run, part in self._parts()]
                found = found[0] if len(found) == 1 else torch.cat(found)
                self._put(found, phi[:, reader.tap.columns])

    def read_probabilities(self, place: int, phi: Tensor, kind: torch.dtype) -> None:
        """The same for the last columns; map number `place` are the logits.

        Softmax is taken in float64 and its outputs are subtracted as `kind`: in float32 the
        difference of two probabilities near 1 loses its digits.
        """
        if not self._are_changes:
            self._switch(place)
        clean = self._clean.maps[place].flatten(1).double()
        probabilities = clean.softmax(1).to(kind)
        changes = finite(self.maps.flatten(1)).double()
        for run, part in zip(self._runs, changes.split(self._sizes), strict=True):
            each = _of_each(part, run).add_(_chosen(clean, run)[:, None]).softmax(2).to(kind)
            part.copy_(each.sub_(_chosen(probabilities, run)[:, None]).flatten(0, 1))
        self._put(changes.abs_().to(phi), phi[:, -changes.shape[1] :])

    def _put(self, found: Tensor, phi: Tensor) -> None:
        phi.index_copy_(0, torch.from_numpy(self.numbers).to(phi.device), found)

    def _first(self, run: Run) -> Tensor:
        """The change of the images."""
        masks, window = self._clean.masks, run.window(0)
        images = _chosen(self._clean.maps[0], run, window)
        fill = _chosen(masks.fill.permute(0, 2, 3, 1), run)
        segments = _chosen(self._clean.segments, run, window)[:, None]
        number = torch.from_numpy(masks.within_image(run.numbers)).to(segments.device)
        segment = number.div(masks.per_segment, rounding_mode="floor")
        masked = (segments == segment[:, :, None, None])[..., None]
        change = (fill - images)[:, None] * masked
        if masks.apart:
            channels = torch.arange(masks.per_segment, device=number.device)
            channel = number[..., None] % masks.per_segment == channels
            change = change * channel[:, :, None, None]
        return change.flatten(0, 1)

    def _switch(self, place: int) -> None:
        """From changes to values, or back."""
        sign = 1 if self._are_changes else -1
        for run, part in self._parts():
            clean = _chosen(self._clean.maps[place], run, run.window(place))
            _of_each(part, run).add_(clean[:, None], alpha=sign)
        self._are_changes = not self._are_changes

    def _parts(self) -> Iterator[tuple[Run, Tensor]]:
        return zip(self._runs, self.maps.split(self._sizes), strict=True)


def _chosen(maps: Tensor, run: Run, window: tuple[slice, ...] = ()) -> Tensor:
    """A run's images, a view where they follow each other."""
    if isinstance(run.images, slice):
        return maps[(run.images, *window)]
    windows = maps[(slice(None), *window)]
    return windows.index_select(0, torch.from_numpy(run.images).to(maps.device))


def _of_each(part: Tensor, run: Run) -> Tensor:
    """[masks of a run, ...] -> [its images, masks of each, ...]."""
    return part.view(*run.numbers.shape, *part.shape[1:])


@dataclass(frozen=True, eq=False)
class _Tap:
    """Nodes that are read from the same map through the same functions.

    `columns` are their places among all nodes; y, x and channels say where in the map they lie.
    """

    source: Source
    columns: slice
    y: np.ndarray
    x: np.ndarray
    channels: np.ndarray

    @lru_cache(maxsize=4096)  # noqa: B019 (all images share few windows)
    def within(self, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor]:
        """Where the nodes lie in a flattened window (0 for those outside), and which are inside."""
        inside = (top <= self.y) & (self.y < bottom) & (left <= self.x) & (self.x < right)
        cells = (self.y - top) * (right - left) + self.x - left
        places = np.where(inside, cells * self.source.shape[0] + self.channels, 0)
        return torch.from_numpy(places), torch.from_numpy(inside)


def _taps(stack: Stack, nodes: Nodes) -> list[_Tap]:
    taps, start = [], 0
    for name, indices in nodes.indices.items():
        source = stack.sources[name]
        channels, y, x = np.unravel_index(indices, source.shape)
        columns = slice(start, start + len(indices))
        start = columns.stop
        last = taps[-1] if taps else None
        if last and last.source == source:
            columns = slice(last.columns.start, columns.stop)
            pairs = zip((last.y, last.x, last.channels), (y, x, channels), strict=True)
            taps[-1] = _Tap(source, columns, *map(np.concatenate, pairs))
        else:
            taps.append(_Tap(source, columns, y, x, channels))
    return taps


class _Reader:
    """A tap on some images."""

    def __init__(self, tap: _Tap, clean: Tensor):
        self.tap = tap
        self._channels = torch.from_numpy(tap.channels).to(clean.device)
        _, height, width, _ = clean.shape
        places, _ = tap.within(0, height, 0, width)
        self._before = clean.flatten(1).index_select(1, places.to(clean.device))
        self._after = self._through(self._before.clone())
        functions = tap.source.put_off
        self._scale = None
        if all(isinstance(function, Affine) for function in functions):
            scales = [function.scale[self._channels] for function in functions]
            self._scale = math.prod(scales, start=torch.ones_like(self._before[0]))

    def read(self, run: Run, maps: Tensor, are_changes: bool) -> Tensor:
        """|phi| of the nodes for each mask of a run: [masks, nodes]."""
        place = self.tap.source.place
        places, inside = self.tap.within(*run.rows.windows[place], *run.columns.windows[place])
        inside = inside.to(maps)
        values = maps.flatten(1).index_select(1, places.to(maps.device))
        each = _of_each(values, run)
        if self._scale is not None:
            # The change itself, which is more exact than the difference of two values.
            if not are_changes:
                each.sub_(_chosen(self._before, run)[:, None])
            return values.mul_(self._scale * inside).abs_()
        if are_changes:
            each.add_(_chosen(self._before, run)[:, None])
        each = self._through(each).sub_(_chosen(self._after, run)[:, None])
        return each.flatten(0, 1).mul_(inside).abs_()

    def _through(self, values: Tensor) -> Tensor:
        for function in self.tap.source.put_off:
            values = function(values, self._channels)
        return values
