"""The interface of data sets: class names, labels, and a function that reads images by their ids.

A component of `datasets/` with a parameter `root` reads from the user's data root; one without it
is embedded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.ops.files import why_not_listable

# The value of a mask's pixels that have no class
IGNORED = 255
IMAGES = "images must be uint8 [n,C,H,W] in 0..255"


class Extent(NamedTuple):
    """How many images a data set has, of which shape [C, H, W], in how many classes.

    Where the numbers of images depend on the user's folder, `assumed` says in words what they are
    taken to be. `dense` says whether there are masks.
    """

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    assumed: str | None = None
    dense: bool = False


class BadSource(BadInput):
    """A data set's function returns something wrong; the message begins with its name."""


def with_extent(extent: Callable[..., Extent]) -> Callable:
    """Decorate a data set's function with its `Extent`, which is known before the data are there.

    `extent` is called with the settings of the data set.
    """

    def decorate(function: Callable) -> Callable:
        function.extent = extent  # type: ignore[attr-defined]
        return function

    return decorate


@dataclass(frozen=True)
class Source:
    """A data set with its training and its test part.

    Ids 0 .. n_train - 1 are the training part, n_train .. n_train + n_test - 1 the test part.
    `train_labels` and `test_labels` are int64 indices into `classes`; `read` takes an integer
    array of n ids and returns uint8 images [n, C, H, W] in 0..255, in the order of the ids.

    A dense data set has a class for each pixel: `masks` takes ids as `read` does and returns uint8
    [n, H, W], indices into `classes`, `IGNORED` where a pixel has none. Its labels are zeros; only
    their number counts.

    Raises:
        BadSource: if `classes` are not two or more different strings, or labels are not whole
            numbers in [0, classes). `images` and `mask` check what `read` and `masks` return.
    """

    classes: list[str]
    train_labels: np.ndarray
    test_labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    masks: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self):
        _check_classes(self.classes)
        if self.masks and len(self.classes) > IGNORED:
            raise BadSource(f"masks can hold at most {IGNORED} classes, got {len(self.classes)}")
        for part in (self.train_labels, self.test_labels):
            _check_labels(part, len(self.classes))
        labels = np.concatenate([self.train_labels, self.test_labels])
        if self.masks is None and len(labels) > 1 and (labels == labels[0]).all():
            raise BadSource(
                f"labels must be of two or more classes, but all {len(labels)} are {labels[0]}"
            )

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """The int64 labels [n] of the images with these ids."""
        return np.concatenate([self.train_labels, self.test_labels])[ids].astype(np.int64)

    def images(self, ids: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The images with these ids, uint8 [n, C, H, W].

        Raises BadSource for images of another type, or of another shape than `shape` [C, H, W].
        """
        try:
            images = self.read(ids)
        except IndexError as error:
            raise BadSource(f"there are more labels than images ({error})") from error
        _check_images(images, len(ids))
        if shape is not None and images.shape[1:] != shape:
            raise BadSource(
                f"images must have one shape, got {list(shape)} and {list(images.shape[1:])}; "
                "resize them to one size"
            )
        return images

    def mask(self, i: int, sides: tuple[int, int]) -> np.ndarray:
        """The mask of the image with the id `i`, uint8 [H, W].

        Raises BadSource if it is not of the `sides` (H, W) or has a value that is not a class.
        """
        assert self.masks is not None
        masks = self.masks(np.array([i]))
        if _type_and_shape(masks) != ("uint8", [1, *sides]):
            raise BadSource(
                f"masks must be uint8 [n,H,W] of the images' sides, here {[1, *sides]}, got "
                f"{_describe(masks)}"
            )
        wrong = masks[(masks >= len(self.classes)) & (masks != IGNORED)]
        if len(wrong):
            raise BadSource(
                f"masks must hold classes from 0 to {len(self.classes) - 1}, or {IGNORED} for a "
                f"pixel without a class, but the mask of image {i} holds {wrong[0]}"
            )
        return masks[0]


def _check_classes(classes) -> None:
    names = [*classes] if isinstance(classes, list | tuple | np.ndarray) else None
    if not names or not all(isinstance(name, str) for name in names):
        raise BadSource(f"classes must be a list of strings, the classes' names, got {classes!r}")
    if len(names) < 2:
        raise BadSource(f"classes must be two or more, got only {names[0]!r}")
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BadSource(f"classes must be distinct, but {repeated[0]!r} is listed twice")
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise BadSource(f"classes must be valid UTF-8, got {name!r}; rename it")


def _check_labels(labels, classes: int) -> None:
    rule = f"labels must be whole numbers [n] from 0 to {classes - 1}"
    dtype, shape = _type_and_shape(labels)
    if not dtype.startswith(("int", "uint")) or len(shape) != 1:
        remedy = "; convert one-hot labels with `argmax(1)`" if len(shape) == 2 else ""
        raise BadSource(f"{rule}, got {_describe(labels)}{remedy}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise BadSource(f"{rule}, but {len(wrong)} are not, such as {wrong[0]}")


def _check_images(images, count: int | None = None) -> None:
    dtype, shape = _type_and_shape(images)
    if dtype != "uint8" or len(shape) != 4 or 0 in shape[1:]:
        raise BadSource(f"{IMAGES}, got {_describe(images)}")
    if shape[3] <= 4 and shape[3] < min(shape[1:3]):
        raise BadSource(
            f"{IMAGES}, but their shape {shape} looks like [n,H,W,C]; pass "
            "`images.transpose(0, 3, 1, 2)`"
        )
    if count is not None and shape[0] != count:
        raise BadSource(f"`read` must return one image per id, got {shape[0]} for {count}")


def _type_and_shape(array) -> tuple[str, list[int]]:
    """An array's dtype and shape; for other objects the name of their type and an empty list."""
    if isinstance(array, np.ndarray):
        return array.dtype.name, [*array.shape]
    return type(array).__name__, []


def _describe(array) -> str:
    """An array's dtype and shape in words, for messages."""
    dtype, shape = _type_and_shape(array)
    return f"{dtype} {shape}" if isinstance(array, np.ndarray) else f"a {dtype}, not a NumPy array"


# The return annotation of a dense data set's function: the configuration reads it without a call.
# The sides of its images are the function's setting `size`, one for both or [height, width].
DenseSource = Source


def in_memory(classes: list[str], images: np.ndarray, labels: np.ndarray, n_train: int) -> Source:
    """A `Source` of images in memory, whose first `n_train` are the training part.

    Args:
        classes: names of the K classes.
        images: uint8 [N, C, H, W] in 0..255.
        labels: whole numbers [N] in [0, K).
        n_train: from 0 to N.

    Raises:
        BadSource: as `Source`, for images of another type or shape, for another number of labels.
    """
    _check_images(images)
    try:
        labels = np.asarray(labels)
    except ValueError as error:
        raise BadSource(f"labels must be an array of whole numbers [n] ({error})") from error
    if len(labels.shape) == 1 and len(labels) != len(images):
        raise BadSource(
            f"each image needs a label, got {len(images)} images and {len(labels)} labels"
        )
    is_int = isinstance(n_train, int | np.integer) and not isinstance(n_train, bool)
    if not is_int or not 0 <= n_train <= len(images):
        raise BadSource(f"n_train must be an int from 0 to {len(images)}, got {n_train!r}")
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    return Source(classes, labels[:n_train], labels[n_train:], images.__getitem__)


def data_folder(root: Path | None, name: str, layout: str) -> Path:
    """The folder `name` of the data root.

    Raises BadInput, which says that `layout` is expected, if there is no root or no such folder.
    """
    if root is None:
        raise BadInput(
            f"data_root is not set, but this data set is read from it; "
            f"set it to a folder that contains {layout}"
        )
    folder = Path(root) / name
    if reason := why_not_listable(folder):
        raise BadInput(f"data_root: {folder} {reason}; expected {layout}")
    return folder
