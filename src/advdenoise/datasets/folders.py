"""Data sets that are folders of image files, which are decoded when they are read.

Only an array of file names is kept in memory, a few dozen bytes per image.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from advdenoise.datasets._files import LONGEST_SIDE, decode, is_hidden, read_lines, resize_and_crop
from advdenoise.datasets._source import Extent, Source, data_folder, with_extent
from advdenoise.errors import BadInput
from advdenoise.ranges import Interval

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
TINY_IMAGENET = "tiny-imagenet-200"


def _like_tiny_imagenet(*, classes: int | None = None) -> Extent:
    count = classes or 200
    return Extent(500 * count, 50 * count, (3, 64, 64), count, "the whole of Tiny ImageNet")


@with_extent(_like_tiny_imagenet)
def tiny_imagenet(
    root: Path, *, classes: Annotated[int, Interval(ge=2, le=200)] | None = None
) -> Source:
    """Tiny ImageNet, 64x64 colour, in its own layout; its validation part is the test part.

    Args:
        root: the data root, with the folder `tiny-imagenet-200`.
        classes: use only the first `classes` of `wnids.txt` in sorted order, which is the order of
            torchvision's `ImageFolder`; null for all.

    Raises:
        BadInput: naming a file or folder that is missing or empty, or a line of a list that is
            repeated or refers to a missing image or an unknown class.
        DamagedFile: on reading, naming an image that cannot be decoded or has another size.
    """
    layout = f"{TINY_IMAGENET}/ with wnids.txt, train/<class>/images/ and val/images/"
    folder = data_folder(root, TINY_IMAGENET, layout)
    all_names = sorted(line.strip() for line in read_lines(folder / "wnids.txt"))
    if repeated := _repeated(all_names):
        raise BadInput(
            f"{folder / 'wnids.txt'} lists the class {repeated!r} twice; remove one of the lines"
        )
    if classes is not None and not 2 <= classes <= len(all_names):
        raise BadInput(
            f"folders.tiny_imagenet: settings.classes must be in [2, {len(all_names)}], the number "
            f"of classes in wnids.txt, got {classes}"
        )
    names = all_names[:classes]
    train = []
    for name in names:
        part = f"train/{name}/images"
        files = sorted(_files(folder / part))
        if not files:
            raise BadInput(
                f"{folder / part} has no images, but wnids.txt lists that class; "
                "unpack the data set again"
            )
        train.append([f"{part}/{file}" for file in files])
    val_files, val_labels = _annotations(folder, all_names)
    is_used = val_labels < len(names)
    val_files = [file for file, used in zip(val_files, is_used, strict=True) if used]
    labels = np.repeat(np.arange(len(names)), [len(files) for files in train])
    table = np.concatenate([*(_as_bytes(files) for files in train), _as_bytes(val_files)])
    return Source(names, labels, val_labels[is_used], _reader(folder, table, _check_64x64))


def _like_imagenet(*, size: int = 256, **_) -> Extent:
    return Extent(1_281_167, 50_000, (3, size, size), 1000, "as many images as ImageNet")


@with_extent(_like_imagenet)
def imagenet_folder(
    root: Path,
    *,
    train: str | None = "train",
    test: str = "val",
    size: Annotated[int, Interval(ge=1, le=4096)] = 256,
) -> Source:
    """A folder of images with one folder per class, like ImageNet's: `{train,test}/<class>/...`.

    Images are converted to RGB, resized to a shorter side of `size` (bilinear, antialiased) and
    cropped to the middle `size` x `size` pixels. They may be anywhere below a class folder, also
    behind symbolic links. Hidden files and folders and files without an image's suffix are ignored.

    Args:
        root: the data root.
        train, test: the folders of the two parts below it; `train: null` for a test part only.
        size: side of the images in pixels, 1 to 4096.

    Raises:
        BadInput: naming a part or a class folder that is missing, empty or part of two classes, a
            broken link, or a part of fewer than two classes.
        DamagedFile: on reading, naming an image that cannot be decoded.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LONGEST_SIDE:
        raise BadInput(
            f"folders.imagenet_folder: settings.size must be a whole number in "
            f"[1, {LONGEST_SIDE}], got {size!r}"
        )
    remedies = {train: "; if there is no such part, set `train: null`"}
    parts = [part for part in (train, test) if part is not None]
    folders = [data_folder(root, p, f"{p}/<class>/<images>{remedies.get(p, '')}") for p in parts]
    classes = _folders(folders[0])
    for folder in folders:
        differing = sorted(set(classes) ^ set(_folders(folder)))
        if differing:
            raise BadInput(
                f"{folder} and {folders[0]} have different classes: {differing[0]!r} is in only "
                "one of them; each class needs a folder in both"
            )
    tables = [_class_tables(Path(root), part, classes) for part in parts]
    labels = [np.repeat(np.arange(len(classes)), [len(t) for t in part]) for part in tables]
    if train is None:
        labels.insert(0, np.zeros(0, np.int64))
    names = np.concatenate([table for part in tables for table in part])
    read = _reader(Path(root), names, lambda image: resize_and_crop(image, size))
    train_labels, test_labels = labels
    return Source(classes, train_labels, test_labels, read)


def _files(folder: Path) -> list[str]:
    """The names of the image files in a folder; an empty list if there is no such folder."""
    return list(filter(_is_image, _entries(folder)[1])) if folder.is_dir() else []


def _is_image(name: str) -> bool:
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _entries(folder: str | Path) -> tuple[list[str], list[str]]:
    """Names of the folders and files in a folder, links followed, without hidden ones.

    Raises BadInput if the folder cannot be listed or contains a broken link.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink() and not os.path.exists(entry.path):
                    raise BadInput(f"{entry.path} is a broken link; repair or remove it")
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be listed ({error.strerror}); check its permissions"
        ) from error
    return sorted(folders), files


def _folders(folder: Path) -> list[str]:
    """The names of the class folders of a part; raises BadInput for fewer than two."""
    names, _ = _entries(folder)
    if not names:
        raise BadInput(f"{folder} has no class folders; expected one folder per class")
    if len(names) == 1:
        raise BadInput(
            f"{folder} has only the class folder {names[0]!r}, two are needed; expected one folder "
            "per class, which may be one level further down"
        )
    return names


def _repeated(names: list[str]) -> str | None:
    """The first name that a sorted list contains twice."""
    return next((a for a, b in zip(names, names[1:], strict=False) if a == b), None)


def _annotations(folder: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Files and labels of Tiny ImageNet's validation part, in the order of its annotations."""
    table = folder / "val/val_annotations.txt"
    available, annotated = set(_files(folder / "val/images")), set()
    label_of = {name: label for label, name in enumerate(classes)}
    files, labels = [], []
    for number, line in enumerate(read_lines(table), start=1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0].strip()
        if file not in available:
            raise BadInput(f"{table}, line {number}: there is no image val/images/{file}; add it")
        if name not in label_of:
            raise BadInput(f"{table}, line {number}: wnids.txt does not list the class {name!r}")
        if file in annotated:
            raise BadInput(f"{table}, line {number}: {file} is annotated twice; remove one line")
        annotated.add(file)
        files.append(f"val/images/{file}")
        labels.append(label_of[name])
    return files, np.array(labels, np.int64)


def _class_tables(root: Path, part: str, classes: list[str]) -> list[np.ndarray]:
    """The image files below each class folder of a part, relative to the root."""
    top = (root / part).resolve()
    owners = dict.fromkeys(_identity(folder) for folder in (top, *top.parents))
    return [_class_table(root, f"{part}/{name}", owners) for name in classes]


def _class_table(root: Path, class_folder: str, owners: dict) -> np.ndarray:
    """The image files below a class folder; a folder that several links lead to is listed once.

    `owners` is the class folder of each visited folder, None for folders that contain all classes.
    """
    images, pending, visited = [], [class_folder], set()
    while pending:
        folder = pending.pop()
        identity = _identity(root / folder)
        owner = owners.setdefault(identity, class_folder)
        if owner is None or identity in visited:
            continue
        if owner != class_folder:
            raise BadInput(
                f"{root / folder} is also a folder of {root / owner}; an image has one class, so "
                "remove one of the links"
            )
        visited.add(identity)
        folders, files = _entries(root / folder)
        pending += [f"{folder}/{name}" for name in folders]
        images += [f"{folder}/{name}" for name in files if _is_image(name)]
    if not images:
        raise BadInput(f"{root / class_folder} has no images; add some or remove this class folder")
    return _as_bytes(sorted(images))


def _identity(folder: Path) -> tuple[int, int]:
    """Device and inode of a folder, which are the same behind all links to it."""
    try:
        status = os.stat(folder)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be read ({error.strerror}); check its permissions"
        ) from error
    return status.st_dev, status.st_ino


def _as_bytes(files: list[str]) -> np.ndarray:
    """File names as one array of bytes, which takes less memory than a list of strings."""
    return np.array([os.fsencode(file) for file in files])


def _reader(folder: Path, names: np.ndarray, prepare: Callable) -> Callable:
    """`Source.read` for the image files `names` (bytes) of a folder."""

    def read(ids: np.ndarray) -> np.ndarray:
        images = [decode(folder / os.fsdecode(name), prepare) for name in names[ids]]
        return np.stack(images).transpose(0, 3, 1, 2)

    return read


def _check_64x64(image: Image.Image) -> Image.Image:
    if image.size != (64, 64):
        raise ValueError(f"{image.width}x{image.height} pixels where Tiny ImageNet has 64x64")
    return image
