"""What a data set is to the rest: class names, labels, and a way to read images by their ids.

A component of `datasets/` that lists `root` reads from the user's data root, one that does not
list it is embedded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.advdenoise.errors import BadInput

# The value in a mask of a pixel that has no class
IGNORED = 255


class Extent(NamedTuple):
    """How many images a data set has, of which shape [C, H, W], in how many classes.

    `assumed` says, where the numbers of images depend on the user's folder, what stands for them;
    `dense` whether there are masks.
    """

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    assumed: str | None = None
    dense: bool = False


def holds(extent: Callable[..., Extent]) -> Callable:
    """Tells what a data set holds before there are any data: `extent` takes its settings."""

    def mark(function: Callable) -> Callable:
        function.extent = extent
        return function

    return mark


@dataclass(frozen=True)
class Source:
    """A data set with its training and its test part.

    Ids 0 .. n_train - 1 are the training part, n_train .. n_train + n_test - 1 the test part.
    `train_labels` and `test_labels` are int64 indices into `classes`; `read` takes an integer
    array of n ids and returns uint8 images [n, C, H, W] in 0..255, in the order of the ids.

    A dense data set has a class for each pixel: `masks` takes ids as `read` does and returns uint8
    [n, H, W], indices into `classes`, `IGNORED` where a pixel has none. Its labels are zeros, which
    only say how many images there are.
    """

    classes: list[str]
    train_labels: np.ndarray
    test_labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    masks: Callable[[np.ndarray], np.ndarray] | None = None

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """The int64 labels [n] of the images with these ids."""
        return np.concatenate([self.train_labels, self.test_labels])[ids]


# What a function returns whose data set is dense: the configuration reads that without a call, and
# the sides of its images are the function's setting `size`, one for both or [height, width].
DenseSource = Source


def in_memory(classes: list[str], images: np.ndarray, labels: np.ndarray, n_train: int) -> Source:
    """A `Source` over uint8 images [N, C, H, W] whose first `n_train` are the training part."""
    labels = np.asarray(labels, np.int64)
    return Source(classes, labels[:n_train], labels[n_train:], images.__getitem__)


def below(root: Path | None, folder: str, layout: str) -> Path:
    """The folder `folder` of the data root; `BadInput` naming `layout` where it is missing."""
    if root is None:
        raise BadInput(
            f"data_root is not set, but this data set is read from it; "
            f"set it to a folder that holds {layout}"
        )
    found = Path(root) / folder
    if not found.is_dir():
        raise BadInput(f"data_root: there is no folder {found}; expected is {layout}")
    return found
