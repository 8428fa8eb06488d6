"""Which window of each map a mask can change, and which masks are computed together.

All steps treat rows and columns apart, so a window is an interval of rows and one of columns, and
each is followed through the steps by itself. A window may be larger than what changes, never
smaller: what lies in it unchanged has the change 0.

The steps are taken in legs, each up to where the maps become smaller. Masks whose windows have
the same form are computed together; after a leg they are sorted anew, for what differs in early
maps, where windows are small and many, does not matter later, where they are large and few.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from advdenoise.attributions._masks import Masks
from advdenoise.inference.stack import Stack
from advdenoise.inference.steps import Dense, MaxPool, Pointwise, Step


@dataclass(frozen=True)
class Span:
    """One interval on its way through all steps.

    Attributes:
        windows: first and one past the last cell of each map, within the map.
        pads: for each step the cells that its outputs look at beyond its input's window, at
            either end; negative where the window holds cells that none looks at.
    """

    windows: tuple[tuple[int, int], ...]
    pads: tuple[tuple[int, int], ...]

    def in_leg(self, leg: range) -> tuple[tuple, tuple]:
        """Windows and pads of one leg, the windows with that of the map after it."""
        return self.windows[leg.start : leg.stop + 1], self.pads[leg.start : leg.stop]


class Planner:
    """Follows intervals of the images through a stack's steps."""

    def __init__(self, stack: Stack):
        self._steps = stack.steps
        self._shapes = stack.shapes
        self.legs = _legs(stack)

    @cache  # noqa: B019 (a planner lives as long as its network)
    def span(self, axis: int, start: int, stop: int) -> Span:
        """Rows (axis 0) or columns (axis 1) of the images from `start` to before `stop`."""
        windows = [(start, stop)]
        for step, shape in zip(self._steps, self._shapes[1:], strict=True):
            windows.append(_seen(step, axis, windows[-1], shape[1 + axis]))
        pads = []
        for place in reversed(range(len(self._steps))):
            step, size = self._steps[place], self._shapes[place][1 + axis]
            windows[place] = _needed(step, axis, windows[place], windows[place + 1], size)
            pads.append(_pads(step, axis, windows[place], windows[place + 1]))
        return Span(tuple(windows), tuple(reversed(pads)))

    def fields(self, place: int, axis: int) -> np.ndarray:
        """The image's rows or columns that reach each cell of a map: first and one past last."""
        cells = np.arange(self._shapes[place][1 + axis])
        first, last = cells, cells + 1
        for earlier in reversed(range(place)):
            step, size = self._steps[earlier], self._shapes[earlier][1 + axis]
            if isinstance(step, Dense):
                first, last = np.zeros_like(first), np.full_like(last, size)
            else:
                first, last = step.axes[axis].looks_at(first, last)
            first, last = first.clip(0, size), last.clip(0, size)
        return np.stack([first, last])


def _seen(step: Step, axis: int, window: tuple[int, int], size: int) -> tuple[int, int]:
    if isinstance(step, Dense):
        return 0, 1
    return step.axes[axis].seen_by(*window, size)


def _needed(
    step: Step, axis: int, window: tuple[int, int], after: tuple[int, int], size: int
) -> tuple[int, int]:
    """The window of a step's input: for values, unlike changes, wherever the step looks."""
    if isinstance(step, Dense):
        return window
    first, last = step.axes[axis].looks_at(*after)
    first, last = max(first, 0), min(last, size)
    # Nothing looks at a change that falls between two strides: then `after` is any one cell.
    apart = first >= window[1] or last <= window[0]
    if apart or isinstance(step, Pointwise | MaxPool):
        return min(first, window[0]), max(last, window[1])
    return window


def _pads(
    step: Step, axis: int, window: tuple[int, int], after: tuple[int, int]
) -> tuple[int, int]:
    if isinstance(step, Dense):
        return 0, 0
    first, last = step.axes[axis].looks_at(*after)
    return window[0] - first, last - window[1]


def _legs(stack: Stack) -> list[range]:
    """The steps in ranges, each but the last ending with one that makes maps smaller."""
    last = len(stack.steps)
    stops = [
        place
        for place in range(1, last)
        if stack.shapes[place][1] < stack.shapes[place - 1][1] and stack.shapes[place][1] > 1
    ]
    return [range(start, stop) for start, stop in pairwise([0, *stops, last])]


@dataclass(frozen=True, eq=False)
class Run:
    """Masks with the same windows in one leg, the same number of each image in it.

    Attributes:
        rows, columns: spans with these windows.
        images: the images [n], a slice where they follow each other.
        numbers: the numbers of their masks [n, m].
    """

    rows: Span
    columns: Span
    images: np.ndarray | slice
    numbers: np.ndarray

    def window(self, place: int) -> tuple[slice, slice]:
        """Rows and columns of a map."""
        return slice(*self.rows.windows[place]), slice(*self.columns.windows[place])


class Plan:
    """The way of all masks through the steps.

    Args:
        grid: the windows of the images begin and end at multiples of it, so that more masks share
            a form.
    """

    def __init__(self, planner: Planner, masks: Masks, grid: int):
        boxes = _boxes(masks.segments, grid).repeat(masks.per_segment, axis=1)
        self._image = np.repeat(np.arange(len(masks.counts)), masks.counts)
        self._spans, self._index = [], []
        for axis in (0, 1):
            intervals, index = np.unique(
                boxes[2 * axis : 2 * axis + 2], axis=1, return_inverse=True
            )
            spans = [planner.span(axis, *each) for each in intervals.T.tolist()]
            self._spans.append(spans)
            self._index.append(index.ravel())

    def sizes(self, place: int) -> np.ndarray:
        """Height and width of each mask's window of a map: [2, masks]."""
        found = []
        for spans, index in zip(self._spans, self._index, strict=True):
            windows = np.array([span.windows[place] for span in spans])
            found.append((windows[:, 1] - windows[:, 0])[index])
        return np.stack(found)

    def batches(self, leg: range, most: int) -> Iterator[list[Run]]:
        """All masks, in lists of runs of one form that hold at most `most` masks."""
        batch, form, size = [], None, 0
        for each, run in self._runs(leg):
            for piece in _pieces(run, most):
                if batch and (each != form or size + piece.numbers.size > most):
                    yield batch
                    batch, size = [], 0
                batch.append(piece)
                form, size = each, size + piece.numbers.size
        yield batch

    def _runs(self, leg: range) -> Iterator[tuple[tuple, Run]]:
        """Runs with their forms, those of one form in succession."""
        forms, windows = zip(*(self._sorted(axis, leg) for axis in (0, 1)), strict=True)
        order = np.lexsort((self._image, *windows, *forms))
        keys = np.stack([*windows, *forms])[:, order]
        cuts = np.flatnonzero((np.diff(keys) != 0).any(0)) + 1
        for part in np.split(order, cuts):
            first = part[0]
            rows, columns = (self._spans[axis][self._index[axis][first]] for axis in (0, 1))
            yield tuple(form[first] for form in forms), Run(rows, columns, *self._per_image(part))

    def _sorted(self, axis: int, leg: range) -> tuple[np.ndarray, np.ndarray]:
        """For each mask the number of its form and of its windows, along one axis."""
        forms, windows = {}, {}
        numbers = []
        for span in self._spans[axis]:
            each, pads = span.in_leg(leg)
            form = tuple(stop - start for start, stop in each), pads
            numbers.append(
                (forms.setdefault(form, len(forms)), windows.setdefault(each, len(windows)))
            )
        return tuple(np.array(numbers)[self._index[axis]].T)

    def _per_image(self, numbers: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
        """The images [n] and their masks [n, m]; m is 1 where they have not as many."""
        image = self._image[numbers]
        found, counts = np.unique(image, return_counts=True)
        if (counts != counts[0]).any():
            return image, numbers[:, None]
        if found[-1] - found[0] + 1 == len(found):
            found = slice(int(found[0]), int(found[-1]) + 1)
        return found, numbers.reshape(-1, counts[0])


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


def _pieces(run: Run, most: int) -> Iterator[Run]:
    """The run, cut between images."""
    count, each = run.numbers.shape
    step = max(1, most // each)
    for start in range(0, count, step):
        stop = min(start + step, count)
        images = run.images
        if isinstance(images, slice):
            images = slice(images.start + start, images.start + stop)
        else:
            images = images[start:stop]
        yield Run(run.rows, run.columns, images, run.numbers[start:stop])
