"""The window of each map that a mask can change, and the masks that are computed together.

All steps treat rows and columns separately, so a window is an interval of rows and one of columns,
and each is propagated through the steps by itself. A window may be larger than what changes, never
smaller: unchanged cells in it have the change 0.

The steps are divided into sections that end where the maps become smaller. Masks whose windows have
the same layout (sizes and pads) in a section are computed together. They are grouped again for each
section, since windows are small and of many layouts in early maps, and large and of few later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from advdenoise.attributions._masks import Masks
from advdenoise.inference.stack import Stack
from advdenoise.inference.steps import Dense, MaxPool, Pointwise, Step


@dataclass(frozen=True)
class Span:
    """An interval of rows or columns, propagated through all steps.

    Attributes:
        windows: start and stop of the interval in each map.
        pads: for each step, the numbers of cells beyond both ends of its input's window that its
            outputs depend on; negative if the window has cells that no output depends on.
    """

    windows: tuple[tuple[int, int], ...]
    pads: tuple[tuple[int, int], ...]

    def in_section(self, section: range) -> tuple[tuple, tuple]:
        """The windows of a section, including that of the map after it, and its pads."""
        start, stop = section.start, section.stop
        return self.windows[start : stop + 1], self.pads[start:stop]


class Planner:
    """Propagates intervals of the images through the steps of a stack."""

    def __init__(self, stack: Stack):
        self._steps = stack.steps
        self._shapes = stack.shapes
        self.sections = _sections(stack)

    @cache  # noqa: B019 (a planner lives as long as its network)
    def span(self, axis: int, start: int, stop: int) -> Span:
        """The span of rows (axis 0) or columns (axis 1) [`start`, `stop`) of the images."""
        windows = [(start, stop)]
        for step, shape in zip(self._steps, self._shapes[1:], strict=True):
            windows.append(_affected_window(step, axis, windows[-1], shape[1 + axis]))
        pads = []
        for i in reversed(range(len(self._steps))):
            step, size = self._steps[i], self._shapes[i][1 + axis]
            windows[i] = _required_window(step, axis, windows[i], windows[i + 1], size)
            pads.append(_pads(step, axis, windows[i], windows[i + 1]))
        return Span(tuple(windows), tuple(reversed(pads)))

    def fields(self, i: int, axis: int) -> np.ndarray:
        """Start and stop of the image's rows or columns on which each cell of a map depends."""
        cells = np.arange(self._shapes[i][1 + axis])
        first: Any = cells
        last: Any = cells + 1
        for j in reversed(range(i)):
            step, size = self._steps[j], self._shapes[j][1 + axis]
            if isinstance(step, Dense):
                first, last = np.zeros_like(first), np.full_like(last, size)
            else:
                first, last = step.axes[axis].input_range(first, last)
            first, last = first.clip(0, size), last.clip(0, size)
        return np.stack([first, last])


def _affected_window(step: Step, axis: int, window: tuple[int, int], size: int) -> tuple[int, int]:
    if isinstance(step, Dense):
        return 0, 1
    return step.axes[axis].output_range(*window, size)


def _required_window(
    step: Step, axis: int, window: tuple[int, int], after: tuple[int, int], size: int
) -> tuple[int, int]:
    """The window of a step's input; for values, unlike changes, all that its outputs depend on."""
    if isinstance(step, Dense):
        return window
    first, last = step.axes[axis].input_range(*after)
    first, last = max(first, 0), min(last, size)
    # No output depends on a change between two strides: then `after` is an arbitrary cell.
    no_overlap = first >= window[1] or last <= window[0]
    if no_overlap or isinstance(step, Pointwise | MaxPool):
        return min(first, window[0]), max(last, window[1])
    return window


def _pads(
    step: Step, axis: int, window: tuple[int, int], after: tuple[int, int]
) -> tuple[int, int]:
    if isinstance(step, Dense):
        return 0, 0
    first, last = step.axes[axis].input_range(*after)
    return window[0] - first, last - window[1]


def _sections(stack: Stack) -> list[range]:
    """The steps in ranges, all but the last of which end with a step that makes maps smaller."""
    last = len(stack.steps)
    stops = [
        i
        for i in range(1, last)
        if stack.shapes[i][1] < stack.shapes[i - 1][1] and stack.shapes[i][1] > 1
    ]
    return [range(start, stop) for start, stop in pairwise([0, *stops, last])]


@dataclass(frozen=True, eq=False)
class WindowGroup:
    """Masks with the same windows in a section, the same number for each image.

    Attributes:
        rows, columns: spans with these windows.
        images: the images [n], a slice if they are consecutive.
        numbers: the numbers of their masks [n, m].
    """

    rows: Span
    columns: Span
    images: np.ndarray | slice
    numbers: np.ndarray

    def window(self, i: int) -> tuple[slice, slice]:
        """The rows and columns of map number `i`."""
        return slice(*self.rows.windows[i]), slice(*self.columns.windows[i])


class Plan:
    """The windows of all masks in all maps, and their division into batches.

    Args:
        grid: the windows of the images start and stop at multiples of it, so that more masks share
            a layout.
    """

    def __init__(self, planner: Planner, masks: Masks, grid: int):
        boxes = _boxes(masks.segments, grid).repeat(masks.per_segment, axis=1)
        self._image = np.repeat(np.arange(len(masks.counts)), masks.counts)
        self._spans, self._index = [], []
        for axis in (0, 1):
            intervals, index = np.unique(
                boxes[2 * axis : 2 * axis + 2], axis=1, return_inverse=True
            )
            spans = [planner.span(axis, *interval) for interval in intervals.T.tolist()]
            self._spans.append(spans)
            self._index.append(index.ravel())

    def sizes(self, i: int) -> np.ndarray:
        """Height and width of the window of each mask in map number `i`: [2, masks]."""
        sizes = []
        for spans, index in zip(self._spans, self._index, strict=True):
            windows = np.array([span.windows[i] for span in spans])
            sizes.append((windows[:, 1] - windows[:, 0])[index])
        return np.stack(sizes)

    def batches(self, section: range, max_masks: int) -> Iterator[list[WindowGroup]]:
        """All masks, in lists of groups of one layout with at most `max_masks` masks."""
        batch: list[WindowGroup] = []
        layout, size = None, 0
        for group_layout, group in self._groups(section):
            for part in _split(group, max_masks):
                if batch and (group_layout != layout or size + part.numbers.size > max_masks):
                    yield batch
                    batch, size = [], 0
                batch.append(part)
                layout, size = group_layout, size + part.numbers.size
        yield batch

    def _groups(self, section: range) -> Iterator[tuple[tuple, WindowGroup]]:
        """Pairs of layout and group, ordered by layout."""
        by_axis = [self._number_layouts(axis, section) for axis in (0, 1)]
        layouts, windows = zip(*by_axis, strict=True)
        order = np.lexsort((self._image, *windows, *layouts))
        keys = np.stack([*windows, *layouts])[:, order]
        cuts = np.flatnonzero((np.diff(keys) != 0).any(0)) + 1
        for part in np.split(order, cuts):
            first = part[0]
            rows, columns = (self._spans[axis][self._index[axis][first]] for axis in (0, 1))
            group = WindowGroup(rows, columns, *self._per_image(part))
            yield tuple(layout[first] for layout in layouts), group

    def _number_layouts(self, axis: int, section: range) -> tuple[np.ndarray, np.ndarray]:
        """For each mask the number of its layout and of its windows, along one axis."""
        layouts: dict = {}
        windows: dict = {}
        numbers = []
        for span in self._spans[axis]:
            section_windows, pads = span.in_section(section)
            layout = tuple(stop - start for start, stop in section_windows), pads
            layout_number = layouts.setdefault(layout, len(layouts))
            numbers.append((layout_number, windows.setdefault(section_windows, len(windows))))
        return tuple(np.array(numbers)[self._index[axis]].T)

    def _per_image(self, numbers: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
        """The images [n] and their masks [n, m]; m is 1 unless all have the same number."""
        image = self._image[numbers]
        unique, counts = np.unique(image, return_counts=True)
        if (counts != counts[0]).any():
            return image, numbers[:, None]
        per_image = numbers.reshape(-1, counts[0])
        if unique[-1] - unique[0] + 1 == len(unique):
            return slice(int(unique[0]), int(unique[-1]) + 1), per_image
        return unique, per_image


def _boxes(segments: np.ndarray, grid: int) -> np.ndarray:
    """Top, bottom, left and right of each segment of each image: [4, segments]."""
    count, height, width = segments.shape
    sizes = segments.reshape(count, -1).max(1) + 1
    number = (segments + (np.cumsum(sizes) - sizes)[:, None, None]).ravel()
    y, x = (np.broadcast_to(a, segments.shape).ravel() for a in np.ogrid[:height, :width])
    total = int(sizes.sum())
    top, left = np.full(total, height), np.full(total, width)
    bottom, right = np.zeros(total, np.int64), np.zeros(total, np.int64)
    np.minimum.at(top, number, y)
    np.minimum.at(left, number, x)
    np.maximum.at(bottom, number, y + 1)
    np.maximum.at(right, number, x + 1)
    bottom, right = (-(-edge // grid) * grid for edge in (bottom, right))
    return np.stack(
        [top // grid * grid, bottom.clip(max=height), left // grid * grid, right.clip(max=width)]
    )


def _split(group: WindowGroup, max_masks: int) -> Iterator[WindowGroup]:
    """The group, divided between images into groups of at most `max_masks` masks if possible."""
    count, masks_per_image = group.numbers.shape
    step = max(1, max_masks // masks_per_image)
    for start in range(0, count, step):
        stop = min(start + step, count)
        images = group.images
        if isinstance(images, slice):
            images = slice(images.start + start, images.start + stop)
        else:
            images = images[start:stop]
        yield WindowGroup(group.rows, group.columns, images, group.numbers[start:stop])
