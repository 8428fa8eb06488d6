"""One colour for each class of a mask, the same in every figure."""

import numpy as np

_BITS = 8


def _colours() -> np.ndarray:
    """PASCAL VOC's colours of the labels 0 to 255, in [0,1]: [256,3].

    A label's lowest three bits are the highest of red, green and blue, its next three the next, and
    so on: neighbours differ strongly, 0 is black.
    """
    labels = np.arange(256)
    levels = np.zeros((256, 3), np.int64)
    for bit in range(_BITS):
        levels[:, bit % 3] |= (labels >> bit & 1) << (_BITS - 1 - bit // 3)
    return levels / 255


_COLOURS = _colours()


def coloured(mask: np.ndarray) -> np.ndarray:
    """A mask of labels uint8 [H,W] as a picture [H,W,3] in [0,1]."""
    return _COLOURS[mask]


def colour(label: int) -> tuple[float, float, float]:
    """The colour of a label."""
    return tuple(_COLOURS[label])
