"""Images with the borders of their superpixels."""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from advdenoise.ranges import PositiveInt
from advdenoise.reporting import labels
from advdenoise.reporting.subject import of_what
from advdenoise.reporting.superpixels import Example, read_examples

_SIZE = 6  # of a pixel, so that a border is thin beside it
_BORDER = (1.0, 1.0, 0.0)
_GAP = 40  # above each picture, for its title


def boundaries(examples: list[Path], *, method: str, images: PositiveInt = 10) -> Figure:
    """Images (columns) with the segments of each setting of a method (rows) and their number.

    `method` is a function of superpixels, such as slic; shown are each file's first `images`.
    Tables 3, 4 and 5.
    """
    shown = [example for example in read_examples(examples, method) if example.place < images]
    grid = list(itertools.zip_longest(*map(_pictures, shown)))  # settings by images
    side = max(max(picture.shape[:2]) for row in grid for _, picture in filter(None, row))
    columns = max(map(len, grid))
    # One picture of all: matplotlib takes seconds for as many axes.
    canvas = np.ones((len(grid) * (side + _GAP), columns * (side + _GAP), 3))
    figure, axis = plt.subplots(figsize=(1.9 * columns, 1.9 * len(grid)))
    for row, pictures in enumerate(grid):
        for column, titled in enumerate(pictures):
            if titled is None:  # of other images there are more settings
                continue
            title, picture = titled
            top, left = row * (side + _GAP) + _GAP, column * (side + _GAP)
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            axis.text(left, top - _GAP / 4, title, fontsize=5.5)
    axis.imshow(canvas)
    axis.axis("off")
    where = "; ".join(of_what([examples]))
    axis.set_title(f"{where}; {method}: the setting and how many segments", fontsize=8)
    return figure


def _pictures(example: Example) -> list[tuple[str, np.ndarray]]:
    """The image as it is and under each setting, enlarged, with titles."""
    nothing = np.zeros(example.image.shape[:2])
    pictures = [(example.name, _outlined(example.image, nothing))]
    for point, segments in sorted(example.maps, key=lambda pair: _order(pair[0])):
        settings = " ".join(labels.superpixel_settings(point))
        title = f"{settings}: {len(np.unique(segments))}"
        pictures.append((title, _outlined(example.image, segments)))
    return pictures


def _order(point: dict) -> tuple[float, ...]:
    """Settings in rising order."""
    names = labels.SUPERPIXELS.get(point["function"].partition(".")[2], ())
    return tuple(point["settings"][name] for name in names)


def _outlined(image: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """An image [H,W,C] enlarged, in colour, with a border between pixels of different segments."""
    picture = np.broadcast_to(image, (*image.shape[:2], 3))
    picture, segments = (array.repeat(_SIZE, 0).repeat(_SIZE, 1) for array in (picture, segments))
    border = np.zeros(segments.shape, dtype=bool)
    border[1:] |= segments[1:] != segments[:-1]
    border[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    picture[border] = _BORDER
    return picture
