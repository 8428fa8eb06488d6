"""Leave-one-out attributions by propagating only the change of each mask through the network.

A masked segment changes a window of each map, a small one in early maps. The clean maps are
computed once. Then the change of the window is propagated from step to step, for many segments at a
time: linear steps map the change itself, the others the clean window plus the change. The result is
exact up to rounding, and more so than the difference of two full passes, which suffers from
cancellation.

`inference.stack` defines the steps and `_windows` the windows; this module runs them.
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
from advdenoise.attributions._nodes import Nodes, check_finite
from advdenoise.attributions._quantiles import last_rank
from advdenoise.attributions._windows import Plan, Planner, WindowGroup
from advdenoise.inference.stack import Source, Stack
from advdenoise.inference.steps import Affine, Dense, Step
from advdenoise.ops.devices import full_precision

# Masks in one call of a step: enough to be fast, and few enough for their maps to fit the cache.
MAX_MASKS = {"cpu": 128, "cuda": 8192}
# Maximum bytes of the clean maps and the attributions of the images processed together.
MEMORY = {"cpu": 128 << 20, "cuda": 4 << 30}
# The windows of the images start and stop at multiples of these, so that more masks share one:
# coarser for segments, whose windows differ more than those of single pixels.
GRID = {"pixels": 2, "segments": 8}


class Delta:
    """Attributions of the nodes and probabilities of a network given as a stack.

    With `rounded` the probabilities are rounded to float32 before they are subtracted.
    """

    def __init__(self, stack: Stack, nodes: Nodes, rounded: bool = False):
        self.stack = stack
        self._dtype = torch.float32 if rounded else torch.float64
        self._planner = Planner(stack)
        self._taps = _group_taps(stack, nodes)
        self._width = len(nodes) + stack.shapes[-1][0]
        # Clean maps are needed to convert between changes and values, and for the nodes.
        linear = [True, *(step.linear for step in stack.steps)]
        stored = {i for i, (a, b) in enumerate(pairwise(linear)) if a != b}
        self._stored = stored | {0, len(stack.steps), *(tap.source.index for tap in self._taps)}

    def certain_zeros(self, rule: str, per_channel: bool) -> np.ndarray:
        """Whether the IQR of each node is 0 for any image with single pixels masked: bool [nodes].

        A node's phi is 0 for each pixel outside its receptive field. If the field is so small that
        the upper quartile is one of these zeros, the lower quartile is, too.
        """
        channels, height, width = self.stack.shapes[0]
        masks_per_pixel = channels if per_channel else 1
        count = height * width * masks_per_pixel
        threshold = count - 1 - last_rank(count, rule)
        zero = np.zeros(self._width - self.stack.shapes[-1][0], bool)
        for tap in self._taps:
            rows, columns = (
                np.diff(self._planner.fields(tap.source.index, axis)[:, cells], axis=0)[0]
                for axis, cells in enumerate((tap.y, tap.x))
            )
            zero[tap.columns] = rows * columns * masks_per_pixel <= threshold
        return zero

    def attributions(self, masks: Masks) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each image its probabilities [classes] and phi [D, masks].

        D are the nodes, in their order, and the probabilities.

        Raises:
            BadInput: an output is not finite.
        """
        grid = GRID["pixels" if masks.are_pixels else "segments"]
        for chunk in self._chunks(masks, grid):
            yield from self._chunk_attributions(chunk, grid)

    def _chunks(self, masks: Masks, grid: int) -> Iterator[Masks]:
        """Divide the images into chunks that fit into memory together."""
        shapes = self.stack.shapes
        plan = Plan(self._planner, masks, grid)
        # In a section, the windows of the map before it and of the map after it are in memory.
        stops = [section.stop for section in self._planner.sections]
        elements = [plan.sizes(stop).prod(0) * shapes[stop][0] for stop in stops]
        pairs = pairwise([np.zeros_like(elements[0]), *elements])
        window_elements = np.max([a + b for a, b in pairs], axis=0)
        ends = np.cumsum(masks.counts)
        maps = sum(math.prod(shapes[i]) for i in self._stored)
        needed = np.add.reduceat(window_elements + self._width, ends - masks.counts) + maps
        memory = MEMORY[masks.images.device.type] // masks.images.element_size()
        start, size = 0, 0
        for image, extra in enumerate(needed.tolist()):
            if size and size + extra > memory:
                yield masks.part(start, image)
                start, size = image, 0
            size += extra
        yield masks.part(start, len(needed))

    @torch.inference_mode()
    @full_precision()
    def _chunk_attributions(self, masks: Masks, grid: int) -> list[tuple[Tensor, Tensor]]:
        last = len(self.stack.steps)
        maps = enumerate(self.stack.maps(masks.images.permute(0, 2, 3, 1).contiguous()))
        clean = _Clean(masks, {i: values for i, values in maps if i in self._stored})
        readers = [_Reader(tap, clean.maps[tap.source.index]) for tap in self._taps]
        probabilities = check_finite(clean.maps[last].flatten(1)).softmax(1)
        phi = probabilities.new_empty(int(masks.counts.sum()), self._width)
        plan = Plan(self._planner, masks, grid)
        stored = None
        for section in self._planner.sections:
            next_store = _WindowStore(plan.sizes(section.stop))
            for groups in plan.batches(section, MAX_MASKS[phi.device.type]):
                are_changes = self._are_changes(section.start)
                batch = _Batch(clean, groups, stored, are_changes)
                for i in section:
                    batch.read(i, readers, phi)
                    batch.advance(i, self.stack.steps[i])
                if section.stop < last:
                    next_store.put(batch)
                else:
                    batch.read(last, readers, phi)
                    batch.read_probabilities(last, phi, self._dtype)
            stored = next_store
        parts = phi.split(masks.counts.tolist())
        return [(clean, part.T) for clean, part in zip(probabilities, parts, strict=True)]

    def _are_changes(self, i: int) -> bool:
        """Whether map number `i` is computed as changes, not as values."""
        return i == 0 or self.stack.steps[i - 1].linear


@dataclass(frozen=True, eq=False)
class _Clean:
    """The clean images of a chunk and their maps [N, H, W, C] by number."""

    masks: Masks
    maps: dict[int, Tensor]
    segments: Tensor = field(init=False)

    def __post_init__(self):
        labels = torch.from_numpy(self.masks.segments).to(self.masks.images.device)
        object.__setattr__(self, "segments", labels)


class _WindowStore:
    """The windows of all masks in the map between two sections.

    Args:
        sizes: height and width of each mask's window [2, masks].
    """

    def __init__(self, sizes: np.ndarray):
        self._sizes = sizes
        self._rows_in_map = np.empty(sizes.shape[1], np.int64)
        self._maps: dict = {}
        self._counts = {}
        for size in np.unique(sizes, axis=1).T:
            same_size = (sizes == size[:, None]).all(0)
            self._rows_in_map[same_size] = np.arange(same_size.sum())
            self._counts[tuple(size)] = int(same_size.sum())

    def put(self, batch: "_Batch") -> None:
        size = tuple(self._sizes[:, batch.numbers[0]])
        if size not in self._maps:
            shape = self._counts[size], *batch.maps.shape[1:]
            self._maps[size] = batch.maps.new_empty(shape)
        self._maps[size].index_copy_(0, self._rows(batch), batch.maps)

    def take(self, batch: "_Batch") -> Tensor:
        maps = self._maps[tuple(self._sizes[:, batch.numbers[0]])]
        return maps.index_select(0, self._rows(batch).to(maps.device))

    def _rows(self, batch: "_Batch") -> Tensor:
        return torch.from_numpy(self._rows_in_map[batch.numbers])


class _Batch:
    """Masks that are propagated together, as changes or as values of their windows.

    `maps` is [masks, h, w, C], and `numbers` are the numbers of the masks. The masks of a group are
    consecutive, image by image.
    """

    def __init__(
        self,
        clean: _Clean,
        groups: list[WindowGroup],
        stored: _WindowStore | None,
        are_changes: bool,
    ):
        self._clean = clean
        self._groups = groups
        self._sizes = [group.numbers.size for group in groups]
        self._are_changes = are_changes
        self.numbers = np.concatenate([group.numbers.ravel() for group in groups])
        if stored is None:
            self.maps = torch.cat([self._input_change(group) for group in groups])
        else:
            self.maps = stored.take(self)

    def advance(self, i: int, step: Step) -> None:
        """Apply the step from map number `i` to the next."""
        if step.linear != self._are_changes:
            self._toggle(i)
        if isinstance(step, Dense):
            parts = [step.forward_window(p, *group.window(i)) for group, p in self._group_maps()]
            self.maps = torch.cat(parts)
        else:
            group = self._groups[0]
            pads = group.rows.pads[i], group.columns.pads[i]
            self.maps = step.forward_window(self.maps, pads)
        self._are_changes = step.linear

    def read(self, i: int, readers: list["_Reader"], phi: Tensor) -> None:
        """Store |phi| of the nodes in map number `i` in their rows and columns."""
        for reader in readers:
            if reader.tap.source.index == i:
                pairs = self._group_maps()
                parts = [reader.read(group, part, self._are_changes) for group, part in pairs]
                node_phi = parts[0] if len(parts) == 1 else torch.cat(parts)
                self._put(node_phi, phi[:, reader.tap.columns])

    def read_probabilities(self, i: int, phi: Tensor, dtype: torch.dtype) -> None:
        """Store |phi| of the probabilities in the last columns; map number `i` are the logits.

        Softmax is computed in float64, and its outputs are subtracted as `dtype`: in float32 the
        difference of two probabilities near 1 has few significant digits.
        """
        if not self._are_changes:
            self._toggle(i)
        clean = self._clean.maps[i].flatten(1).double()
        probabilities = clean.softmax(1).to(dtype)
        changes = check_finite(self.maps.flatten(1)).double()
        for group, part in zip(self._groups, changes.split(self._sizes), strict=True):
            logits = _per_image(part, group).add_(_select(clean, group)[:, None])
            values = logits.softmax(2).to(dtype)
            part.copy_(values.sub_(_select(probabilities, group)[:, None]).flatten(0, 1))
        self._put(changes.abs_().to(phi), phi[:, -changes.shape[1] :])

    def _put(self, part: Tensor, phi: Tensor) -> None:
        phi.index_copy_(0, torch.from_numpy(self.numbers).to(phi.device), part)

    def _input_change(self, group: WindowGroup) -> Tensor:
        """The change of the images' windows by each mask."""
        masks, window = self._clean.masks, group.window(0)
        images = _select(self._clean.maps[0], group, window)
        fill = _select(masks.fill.permute(0, 2, 3, 1), group)
        segments = _select(self._clean.segments, group, window)[:, None]
        number = torch.from_numpy(masks.within_image(group.numbers)).to(segments.device)
        segment = number.div(masks.per_segment, rounding_mode="floor")
        masked = (segments == segment[:, :, None, None])[..., None]
        change = (fill - images)[:, None] * masked
        if masks.per_channel:
            channels = torch.arange(masks.per_segment, device=number.device)
            channel = number[..., None] % masks.per_segment == channels
            change = change * channel[:, :, None, None]
        return change.flatten(0, 1)

    def _toggle(self, i: int) -> None:
        """Convert map number `i` from changes to values, or back."""
        sign = 1 if self._are_changes else -1
        for group, part in self._group_maps():
            clean = _select(self._clean.maps[i], group, group.window(i))
            _per_image(part, group).add_(clean[:, None], alpha=sign)
        self._are_changes = not self._are_changes

    def _group_maps(self) -> Iterator[tuple[WindowGroup, Tensor]]:
        return zip(self._groups, self.maps.split(self._sizes), strict=True)


def _select(maps: Tensor, group: WindowGroup, window: tuple[slice, ...] = ()) -> Tensor:
    """The maps of a group's images, a view if they are consecutive."""
    if isinstance(group.images, slice):
        return maps[(group.images, *window)]
    windows = maps[(slice(None), *window)]
    return windows.index_select(0, torch.from_numpy(group.images).to(maps.device))


def _per_image(part: Tensor, group: WindowGroup) -> Tensor:
    """[masks of a group, ...] -> [images, masks per image, ...]."""
    return part.view(*group.numbers.shape, *part.shape[1:])


@dataclass(frozen=True, eq=False)
class _Tap:
    """Nodes that are read from the same map through the same functions.

    `columns` are their indices among all nodes; y, x and channels are their coordinates in the map.
    """

    source: Source
    columns: slice
    y: np.ndarray
    x: np.ndarray
    channels: np.ndarray

    @lru_cache(maxsize=4096)  # noqa: B019 (all images share few windows)
    def within(self, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor]:
        """Indices of the nodes into a flattened window (0 if outside), and which are inside."""
        inside = (top <= self.y) & (self.y < bottom) & (left <= self.x) & (self.x < right)
        cells = (self.y - top) * (right - left) + self.x - left
        indices = np.where(inside, cells * self.source.shape[0] + self.channels, 0)
        return torch.from_numpy(indices), torch.from_numpy(inside)


def _group_taps(stack: Stack, nodes: Nodes) -> list[_Tap]:
    taps: list[_Tap] = []
    start = 0
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
    """Reads the nodes of a tap for the images of a chunk."""

    def __init__(self, tap: _Tap, clean: Tensor):
        self.tap = tap
        self._channels = torch.from_numpy(tap.channels).to(clean.device)
        _, height, width, _ = clean.shape
        indices, _ = tap.within(0, height, 0, width)
        self._before = clean.flatten(1).index_select(1, indices.to(clean.device))
        self._after = self._apply(self._before.clone())
        functions = tap.source.deferred
        affine = [function for function in functions if isinstance(function, Affine)]
        self._scale = None
        if len(affine) == len(functions):
            scales = [function.scale[self._channels] for function in affine]
            self._scale = math.prod(scales, start=torch.ones_like(self._before[0]))

    def read(self, group: WindowGroup, maps: Tensor, are_changes: bool) -> Tensor:
        """|phi| of the nodes for each mask of a group: [masks, nodes]."""
        i = self.tap.source.index
        indices, inside = self.tap.within(*group.rows.windows[i], *group.columns.windows[i])
        inside = inside.to(maps)
        values = maps.flatten(1).index_select(1, indices.to(maps.device))
        by_image = _per_image(values, group)
        if self._scale is not None:
            # The change itself, which is more exact than the difference of two values.
            if not are_changes:
                by_image.sub_(_select(self._before, group)[:, None])
            return values.mul_(self._scale * inside).abs_()
        if are_changes:
            by_image.add_(_select(self._before, group)[:, None])
        by_image = self._apply(by_image).sub_(_select(self._after, group)[:, None])
        return by_image.flatten(0, 1).mul_(inside).abs_()

    def _apply(self, values: Tensor) -> Tensor:
        for function in self.tap.source.deferred:
            values = function(values, self._channels)
        return values
