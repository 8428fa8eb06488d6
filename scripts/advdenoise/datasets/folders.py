"""Data sets that are folders of image files. They are decoded as they are read, never all at once.

What is kept of a data set is a table of file names, a few dozen bytes an image.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.advdenoise.datasets._files import decode, lines, middle
from scripts.advdenoise.datasets._source import Extent, Source, below, holds
from scripts.advdenoise.errors import BadInput

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
TINY_IMAGENET = "tiny-imagenet-200"


@holds(lambda: Extent(100_000, 10_000, (3, 64, 64), 200, "the whole of Tiny ImageNet"))
def tiny_imagenet(root: Path) -> Source:
    """Tiny ImageNet, 64x64 colour, in its own layout; its validation part is the test part.

    The classes are those of `wnids.txt` in sorted order, as readers of image folders number them.
    Raises `BadInput` naming the file or folder that is missing, empty or names what is not there,
    on reading `DamagedFile` naming an image that cannot be decoded or has another size.
    """
    layout = f"{TINY_IMAGENET}/ with wnids.txt, train/<class>/images/ and val/images/"
    folder = below(root, TINY_IMAGENET, layout)
    classes = sorted(lines(folder / "wnids.txt"))
    train = []
    for name in classes:
        there = f"train/{name}/images"
        files = sorted(_files(folder / there))
        if not files:
            raise BadInput(
                f"{folder / there} holds no images, but wnids.txt lists that class; "
                "unpack the data set again"
            )
        train.append([f"{there}/{file}" for file in files])
    val_files, val_labels = _annotations(folder, classes)
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in train])
    names = np.concatenate([*(_table(files) for files in train), _table(val_files)])
    return Source(classes, labels, val_labels, _reader(folder, names, _exactly_64))


def _like_imagenet(*, size: int = 256, **_) -> Extent:
    return Extent(1_281_167, 50_000, (3, size, size), 1000, "as many images as ImageNet")


@holds(_like_imagenet)
def imagenet_folder(
    root: Path, *, train: str | None = "train", test: str = "val", size: int = 256
) -> Source:
    """Any folder of images with one folder a class, like ImageNet's: `{train,test}/<class>/...`.

    `train` and `test` name the two parts below the data root; `train: null` is a data set that has
    a test part only. Images become colour, their shorter side `size` (bilinear, smoothed), and are
    cut to the middle `size` x `size` pixels. Raises `BadInput` naming a part or a class folder that
    is missing or empty, on reading `DamagedFile` naming an image that cannot be decoded.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BadInput(f"folders.imagenet_folder: size is {size!r}; give a whole number from 1")
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
    tables = [[_class_table(Path(root), f"{part}/{name}") for name in classes] for part in parts]
    labels = [np.repeat(np.arange(len(classes)), [len(t) for t in part]) for part in tables]
    if train is None:
        labels.insert(0, np.zeros(0, np.int64))
    names = np.concatenate([table for part in tables for table in part])
    return Source(classes, *labels, _reader(Path(root), names, lambda i: middle(i, size)))


def _files(folder: Path) -> list[str]:
    """The names of the image files in a folder; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return [name for name in os.listdir(folder) if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def _folders(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not names:
        raise BadInput(f"{folder} holds no class folders; expected is one folder a class")
    return names


def _annotations(folder: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Files and labels of Tiny ImageNet's validation part, in the order of its annotations."""
    table = folder / "val/val_annotations.txt"
    there = set(_files(folder / "val/images"))
    label_of = {name: label for label, name in enumerate(classes)}
    files, labels = [], []
    for number, line in enumerate(lines(table), start=1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0].strip()
        if file not in there:
            raise BadInput(f"{table}, line {number}: there is no image val/images/{file}; add it")
        if name not in label_of:
            raise BadInput(f"{table}, line {number}: wnids.txt does not list the class {name!r}")
        files.append(f"val/images/{file}")
        labels.append(label_of[name])
    return files, np.array(labels, np.int64)


def _class_table(root: Path, folder: str) -> np.ndarray:
    """The image files anywhere below a class folder, relative to the root."""
    found = [
        os.path.relpath(os.path.join(place, name), root)
        for place, _, _ in os.walk(root / folder, followlinks=True)
        for name in _files(Path(place))
    ]
    if not found:
        raise BadInput(f"{root / folder} holds no images; fill or remove this class folder")
    return _table(sorted(found))


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
