"""What a data set is to the rest: class names, labels, and a way to read images by their ids.

A component of `datasets/` that lists `root` reads from the user's data root, one that does not
list it is embedded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.ops.files import why_not_listable

# The value in a mask of a pixel that has no class
IGNORED = 255
IMAGES = "images must be uint8 [n,C,H,W] in 0..255"


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


class BadSource(BadInput):
    """What a data set's function gives is none; the sentence begins with what is wrong of it."""


def holds(extent: Callable[..., Extent]) -> Callable:
    """Tells what a data set holds before there are any data: `extent` takes its settings."""

    def mark(function: Callable) -> Callable:
        function.extent = extent  # type: ignore[attr-defined]
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

    Raises BadSource for class names that are fewer than two, no texts or the same, and for labels
    that are no whole numbers in [0, classes), one for each image; `images` and `mask` check what is
    read.
    """

    classes: list[str]
    train_labels: np.ndarray
    test_labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    masks: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self):
        _check_classes(self.classes)
        if self.masks and len(self.classes) > IGNORED:
            raise BadSource(f"masks hold {IGNORED} classes at most, not {len(self.classes)}")
        for part in (self.train_labels, self.test_labels):
            _check_labels(part, len(self.classes))
        labels = np.concatenate([self.train_labels, self.test_labels])
        if self.masks is None and len(labels) > 1 and (labels == labels[0]).all():
            raise BadSource(
                f"labels must be of two classes or more, but all {len(labels)} are {labels[0]}"
            )

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """The int64 labels [n] of the images with these ids."""
        return np.concatenate([self.train_labels, self.test_labels])[ids].astype(np.int64)

    def images(self, ids: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The images with these ids; BadSource where they are not uint8 [n, *shape]."""
        try:
            images = self.read(ids)
        except IndexError as error:
            raise BadSource(f"there are more labels than images ({error})") from error
        _check_images(images, len(ids))
        if shape is not None and images.shape[1:] != shape:
            raise BadSource(
                f"images must have one shape, but of some it is {list(shape)} and of others "
                f"{list(images.shape[1:])}; bring them to one size"
            )
        return images

    def mask(self, i: int, sides: tuple[int, int]) -> np.ndarray:
        """The mask of the image with the id `i`; BadSource where it is none of these sides."""
        assert self.masks is not None
        masks = self.masks(np.array([i]))
        if _form(masks) != ("uint8", [1, *sides]):
            raise BadSource(
                f"masks must be uint8 [n,H,W] of the images' sides, here {[1, *sides]}, but are "
                f"{_words(masks)}"
            )
        wrong = masks[(masks >= len(self.classes)) & (masks != IGNORED)]
        if len(wrong):
            raise BadSource(
                f"masks must hold classes from 0 to {len(self.classes) - 1}, or {IGNORED} for a "
                f"pixel that has none, but that of image {i} holds {wrong[0]}"
            )
        return masks[0]


def _check_classes(classes) -> None:
    names = [*classes] if isinstance(classes, list | tuple | np.ndarray) else None
    if not names or not all(isinstance(name, str) for name in names):
        raise BadSource(f"classes must be a list of texts, the classes' names, but are {classes!r}")
    if len(names) < 2:
        raise BadSource(f"classes must be two or more, but there is only {names[0]!r}")
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise BadSource(f"classes must differ, but {repeated[0]!r} is there twice")
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise BadSource(f"classes must be texts in UTF-8, but {name!r} is none; rename it")


def _check_labels(labels, classes: int) -> None:
    wanted = f"labels must be whole numbers [n] from 0 to {classes - 1}"
    dtype, shape = _form(labels)
    if not dtype.startswith(("int", "uint")) or len(shape) != 1:
        remedy = "; of one-hot labels take `argmax(1)`" if len(shape) == 2 else ""
        raise BadSource(f"{wanted}, but are {_words(labels)}{remedy}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise BadSource(f"{wanted}, but {len(wrong)} are not, such as {wrong[0]}")


def _check_images(images, count: int | None = None) -> None:
    dtype, shape = _form(images)
    if dtype != "uint8" or len(shape) != 4 or 0 in shape[1:]:
        raise BadSource(f"{IMAGES}, but are {_words(images)}")
    if shape[3] <= 4 and shape[3] < min(shape[1:3]):
        raise BadSource(
            f"{IMAGES}, but their shape {shape} looks like [n,H,W,C]; give "
            "`images.transpose(0, 3, 1, 2)`"
        )
    if count is not None and shape[0] != count:
        raise BadSource(f"`read` must give an image for each id, but gave {shape[0]} for {count}")


def _form(array) -> tuple[str, list[int]]:
    """Type and shape; of what is no NumPy array the name of its own type."""
    if isinstance(array, np.ndarray):
        return array.dtype.name, [*array.shape]
    return type(array).__name__, []


def _words(array) -> str:
    dtype, shape = _form(array)
    return f"{dtype} {shape}" if isinstance(array, np.ndarray) else f"a {dtype}, no NumPy array"


# What a function returns whose data set is dense: the configuration reads that without a call, and
# the sides of its images are the function's setting `size`, one for both or [height, width].
DenseSource = Source


def in_memory(classes: list[str], images: np.ndarray, labels: np.ndarray, n_train: int) -> Source:
    """A `Source` over uint8 images [N, C, H, W] whose first `n_train` are the training part.

    Raises BadSource as `Source`, for other images, and where there is not one label for each.
    """
    _check_images(images)
    try:
        labels = np.asarray(labels)
    except ValueError as error:
        raise BadSource(f"labels must be whole numbers [n], but are no array ({error})") from error
    if len(labels.shape) == 1 and len(labels) != len(images):
        raise BadSource(f"each image needs a label, but there are {len(images)} and {len(labels)}")
    whole = isinstance(n_train, int | np.integer) and not isinstance(n_train, bool)
    if not whole or not 0 <= n_train <= len(images):
        raise BadSource(f"n_train must be an int from 0 to {len(images)}, but is {n_train!r}")
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    return Source(classes, labels[:n_train], labels[n_train:], images.__getitem__)


def below(root: Path | None, folder: str, layout: str) -> Path:
    """The folder `folder` of the data root; `BadInput` naming `layout` where it is missing."""
    if root is None:
        raise BadInput(
            f"data_root is not set, but this data set is read from it; "
            f"set it to a folder that holds {layout}"
        )
    found = Path(root) / folder
    if reason := why_not_listable(found):
        raise BadInput(f"data_root: {found} {reason}; expected is {layout}")
    return found
