"""Many small pictures in rows and columns, drawn as one."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from advdenoise.reporting.palette import BLACK, WRONG

SIDE = 112  # of a tile in pixels: four times that of the small images
CROSS = "\N{BALLOT X}"  # before wrong predictions, for readers who do not see the colour
_GAP, _TITLE = 6, 26  # between tiles, and above those with a title


class Tile(NamedTuple):
    """A picture [H,W] or [H,W,C] in [0,1] with its title, marked with a cross if it is `wrong`."""

    picture: np.ndarray
    title: str = ""
    wrong: bool = False


class Row(NamedTuple):
    """Tiles from left to right, with the row's name before them."""

    name: str
    tiles: list[Tile]


def sheet(rows: list[Row], side: int = SIDE, title: str = "", note: str = "") -> Figure:
    """All rows below each other, every tile brought to the same size without smoothing.

    `side` is that of a tile in pixels; `title` and `note` stand above all.
    """
    heights = [side + (_TITLE if any(t.title for t in row.tiles) else _GAP) for row in rows]
    bottoms = np.cumsum(heights)
    columns = max(len(row.tiles) for row in rows)
    # One picture of all: matplotlib takes seconds for as many axes.
    canvas = np.ones((bottoms[-1], columns * (side + _GAP) - _GAP, 3))
    figure, axis = plt.subplots(figsize=(canvas.shape[1] / 120, canvas.shape[0] / 120))
    for row, bottom in zip(rows, bottoms, strict=True):
        top = bottom - side
        axis.text(-8, top + side / 2, row.name, fontsize=6, ha="right", va="center")
        for column, tile in enumerate(row.tiles):
            left = column * (side + _GAP)
            picture = _sized(tile.picture, side)
            canvas[top : top + len(picture), left : left + picture.shape[1]] = picture
            colour = WRONG if tile.wrong else BLACK
            text = f"{CROSS} {tile.title}" if tile.wrong else tile.title
            axis.text(left, top - 6, text, fontsize=5, color=colour)
    axis.imshow(canvas, vmin=0, vmax=1)
    axis.axis("off")
    axis.set_title("\n".join(filter(None, (title, note))), fontsize=6, loc="left", pad=8)
    return figure


def _sized(picture: np.ndarray, side: int) -> np.ndarray:
    """In colour, its longer side as long as a tile's: [h,w,3]."""
    picture = picture.reshape(*picture.shape[:2], -1)
    height, width = (
        max(1, round(side * length / max(picture.shape[:2]))) for length in picture.shape[:2]
    )
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    return np.broadcast_to(picture[rows][:, columns], (height, width, 3)).clip(0, 1)
