"""Data sets that are folders of image files. They are decoded as they are read, never all at once.

What is kept of a data set is a table of file names, a few dozen bytes an image.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from advdenoise.datasets._files import LONGEST_SIDE, decode, is_hidden, lines, middle
from advdenoise.datasets._source import Extent, Source, below, holds
from advdenoise.errors import BadInput
from advdenoise.ranges import Interval

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
TINY_IMAGENET = "tiny-imagenet-200"


def _like_tiny_imagenet(*, classes: int | None = None) -> Extent:
    count = classes or 200
    return Extent(500 * count, 50 * count, (3, 64, 64), count, "the whole of Tiny ImageNet")


@holds(_like_tiny_imagenet)
def tiny_imagenet(
    root: Path, *, classes: Annotated[int, Interval(ge=2, le=200)] | None = None
) -> Source:
    """Tiny ImageNet, 64x64 colour, in its own layout; its validation part is the test part.

    The classes are those of `wnids.txt` in sorted order, as readers of image folders number them,
    or the first `classes` of them. Raises `BadInput` naming the file or folder that is missing,
    empty, names what is not there or something twice, on reading `DamagedFile` naming an image that
    cannot be decoded or has another size.
    """
    layout = f"{TINY_IMAGENET}/ with wnids.txt, train/<class>/images/ and val/images/"
    folder = below(root, TINY_IMAGENET, layout)
    listed = sorted(line.strip() for line in lines(folder / "wnids.txt"))
    if twice := _repeated(listed):
        raise BadInput(f"{folder / 'wnids.txt'} lists the class {twice!r} twice; take one line out")
    if classes is not None and not 2 <= classes <= len(listed):
        raise BadInput(
            f"folders.tiny_imagenet: settings.classes is {classes}; give a number from 2 to "
            f"{len(listed)}, as many as wnids.txt lists"
        )
    names = listed[:classes]
    train = []
    for name in names:
        there = f"train/{name}/images"
        files = sorted(_files(folder / there))
        if not files:
            raise BadInput(
                f"{folder / there} holds no images, but wnids.txt lists that class; "
                "unpack the data set again"
            )
        train.append([f"{there}/{file}" for file in files])
    val_files, val_labels = _annotations(folder, listed)
    chosen = val_labels < len(names)
    val_files = [file for file, taken in zip(val_files, chosen, strict=True) if taken]
    labels = np.repeat(np.arange(len(names)), [len(files) for files in train])
    table = np.concatenate([*(_table(files) for files in train), _table(val_files)])
    return Source(names, labels, val_labels[chosen], _reader(folder, table, _exactly_64))


def _like_imagenet(*, size: int = 256, **_) -> Extent:
    return Extent(1_281_167, 50_000, (3, size, size), 1000, "as many images as ImageNet")


@holds(_like_imagenet)
def imagenet_folder(
    root: Path,
    *,
    train: str | None = "train",
    test: str = "val",
    size: Annotated[int, Interval(ge=1, le=4096)] = 256,
) -> Source:
    """Any folder of images with one folder a class, like ImageNet's: `{train,test}/<class>/...`.

    `train` and `test` name the two parts below the data root; `train: null` is a data set that has
    a test part only. Images become colour, their shorter side `size` (bilinear, smoothed), and are
    cut to the middle `size` x `size` pixels. They may lie anywhere below a class folder, behind
    links too. Hidden files and folders do not count, nor does what has no image's suffix.

    Raises `BadInput` naming a part or a class folder that is missing, empty or another class's too,
    a link that leads nowhere, and a part of fewer than two classes; on reading `DamagedFile` naming
    an image that cannot be decoded.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LONGEST_SIDE:
        raise BadInput(
            f"folders.imagenet_folder: settings.size: must be in [1, {LONGEST_SIDE}], but is "
            f"{size!r}; give a whole number from 1"
        )
    remedies = {train: "; if there is no such part, say `train: null`"}
    parts = [part for part in (train, test) if part is not None]
    folders = [below(root, p, f"{p}/<class>/<images>{remedies.get(p, '')}") for p in parts]
    classes = _folders(folders[0])
    for folder in folders:
        differing = sorted(set(classes) ^ set(_folders(folder)))
        if differing:
            raise BadInput(
                f"{folder} and {folders[0]} do not hold the same classes: "
                f"{differing[0]!r} is in one of them only; each class needs a folder in both"
            )
    tables = [_class_tables(Path(root), part, classes) for part in parts]
    labels = [np.repeat(np.arange(len(classes)), [len(t) for t in part]) for part in tables]
    if train is None:
        labels.insert(0, np.zeros(0, np.int64))
    names = np.concatenate([table for part in tables for table in part])
    train_labels, test_labels = labels
    return Source(
        classes, train_labels, test_labels, _reader(Path(root), names, lambda i: middle(i, size))
    )


def _files(folder: Path) -> list[str]:
    """The names of the image files in a folder; none where there is no such folder."""
    return list(filter(_is_image, _entries(folder)[1])) if folder.is_dir() else []


def _is_image(name: str) -> bool:
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _entries(folder: str | Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the other files in a folder, links followed, no hidden ones.

    Raises BadInput where it cannot be listed or holds a link that leads nowhere.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink() and not os.path.exists(entry.path):
                    raise BadInput(f"{entry.path} is a link that leads nowhere; mend or remove it")
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be listed ({error.strerror}); check its permissions"
        ) from error
    return sorted(folders), files


def _folders(folder: Path) -> list[str]:
    names, _ = _entries(folder)
    if not names:
        raise BadInput(f"{folder} holds no class folders; expected is one folder a class")
    if len(names) == 1:
        raise BadInput(
            f"{folder} holds 1 class folder, {names[0]!r}, two are needed; expected is one folder "
            "a class, which may lie one folder further down"
        )
    return names


def _repeated(names: list[str]) -> str | None:
    """The first name that is in a sorted list twice."""
    return next((a for a, b in zip(names, names[1:], strict=False) if a == b), None)


def _annotations(folder: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Files and labels of Tiny ImageNet's validation part, in the order of its annotations."""
    table = folder / "val/val_annotations.txt"
    there, listed = set(_files(folder / "val/images")), set()
    label_of = {name: label for label, name in enumerate(classes)}
    files, labels = [], []
    for number, line in enumerate(lines(table), start=1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0].strip()
        if file not in there:
            raise BadInput(f"{table}, line {number}: there is no image val/images/{file}; add it")
        if name not in label_of:
            raise BadInput(f"{table}, line {number}: wnids.txt does not list the class {name!r}")
        if file in listed:
            raise BadInput(f"{table}, line {number}: {file} has one before; take one out")
        listed.add(file)
        files.append(f"val/images/{file}")
        labels.append(label_of[name])
    return files, np.array(labels, np.int64)


def _class_tables(root: Path, part: str, classes: list[str]) -> list[np.ndarray]:
    """The image files anywhere below each class folder of a part, relative to the root."""
    top = (root / part).resolve()
    class_of = dict.fromkeys(_identity(place) for place in (top, *top.parents))
    return [_class_table(root, f"{part}/{name}", class_of) for name in classes]


def _class_table(root: Path, folder: str, class_of: dict) -> np.ndarray:
    """The image files below a class folder, of each folder once, however many links lead there.

    `class_of` says whose the folders are that were visited, None of those that hold all classes.
    """
    found, waiting, visited = [], [folder], set()
    while waiting:
        place = waiting.pop()
        identity = _identity(root / place)
        owner = class_of.setdefault(identity, folder)
        if owner is None or identity in visited:
            continue
        if owner != folder:
            raise BadInput(
                f"{root / place} is a folder of {root / owner} as well; an image is of one class, "
                "so remove one of the links"
            )
        visited.add(identity)
        folders, files = _entries(root / place)
        waiting += [f"{place}/{name}" for name in folders]
        found += [f"{place}/{name}" for name in files if _is_image(name)]
    if not found:
        raise BadInput(f"{root / folder} holds no images; fill or remove this class folder")
    return _table(sorted(found))


def _identity(folder: Path) -> tuple[int, int]:
    """What a folder is called by the system, whatever links lead to it."""
    try:
        status = os.stat(folder)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be read ({error.strerror}); check its permissions"
        ) from error
    return status.st_dev, status.st_ino


def _table(files: list[str]) -> np.ndarray:
    """File names as one compact array of bytes: lists of a million strings would be large."""
    return np.array([os.fsencode(file) for file in files])


def _reader(folder: Path, names: np.ndarray, prepare: Callable) -> Callable:
    def read(ids: np.ndarray) -> np.ndarray:
        images = [decode(folder / os.fsdecode(name), prepare) for name in names[ids]]
        return np.stack(images).transpose(0, 3, 1, 2)

    return read


def _exactly_64(image: Image.Image) -> Image.Image:
    if image.size != (64, 64):
        raise ValueError(f"{image.width}x{image.height} pixels where Tiny ImageNet has 64x64")
    return image
