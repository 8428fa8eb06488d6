"""Colours and markers by name, the same in every figure of an experiment.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), which readers with any
colour vision distinguish.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from advdenoise.graph.threats import CLEAN

BLACK, GREY = "#000000", "#777777"
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY, YELLOW = "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"
WRONG = RED  # what is predicted wrongly, beside a sign that needs no colour

# Yellow is too light for a line on white. No two of the first 42 names have both in common.
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
# So that one name more among those of an experiment changes no other name's style.
RESERVED = 5
MARKERS = ("s", "^", "D", "v", "P", "X", "p")


class Style(NamedTuple):
    """The colour and marker of a set."""

    colour: str
    marker: str


class Styles:
    """A style for each name, kept for all figures that share this object.

    Up to five `names` have theirs whatever else is there; other names get the next ones as they are
    first asked for. Clean images are black dots.
    """

    def __init__(self, names: Iterable[str] = ()):
        pairs = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
        self._free = itertools.starmap(Style, pairs)
        self._styles = {CLEAN: Style(BLACK, "o")}
        reserved = list(itertools.islice(self._free, RESERVED))
        self._styles |= zip(names, reserved, strict=False)

    def of(self, name: str) -> Style:
        """The style of a name."""
        if name not in self._styles:
            self._styles[name] = next(self._free)
        return self._styles[name]


_BITS = 8


def _label_colours() -> np.ndarray:
    """Colours of the labels 0 to 255 of a mask, in [0,1]: [256,3].

    0 to 7 have the palette's, 8 to 23 a dark and a light shade of each. The others have PASCAL
    VOC's, where a label's lowest three bits are the highest of red, green and blue, its next three
    the next, and so on.
    """
    labels = np.arange(256)
    levels = np.zeros((256, 3), np.int64)
    for bit in range(_BITS):
        levels[:, bit % 3] |= (labels >> bit & 1) << (_BITS - 1 - bit // 3)
    colours = levels / 255
    names = (BLACK, BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW)
    plain = np.array([[int(name[at : at + 2], 16) / 255 for at in (1, 3, 5)] for name in names])
    plain[0] = 0.2  # so that it has shades
    colours[:24] = np.concatenate([plain, 0.55 * plain, 0.45 + 0.55 * plain])
    colours[0] = 0
    return colours


_LABELS = _label_colours()


def coloured(mask: np.ndarray) -> np.ndarray:
    """A mask of labels uint8 [H,W] as a picture [H,W,3] in [0,1]."""
    return _LABELS[mask]


def colour(label: int) -> tuple[float, float, float]:
    """The colour of a label."""
    return tuple(_LABELS[label])
