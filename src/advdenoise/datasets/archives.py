"""Data sets of a few archive files, in the folders that torchvision uses.

With `download: true`, torchvision downloads missing files into the data root.
"""

import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np

from advdenoise.datasets._files import download_lock
from advdenoise.datasets._source import Extent, Source, data_folder, in_memory, with_extent
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.ops.files import why_not_readable

# MD5 of the uncompressed files
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

# Bytes of the largest of these files, MNIST's training images
_LARGEST = 47_040_016

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
CIFAR10_CLASSES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


@with_extent(lambda **_: Extent(60_000, 10_000, (1, 28, 28), 10))
def mnist(root: Path, *, download: bool = False) -> Source:
    """MNIST, 28x28 grey, from the idx or .gz files in `MNIST/raw` below the data root.

    Raises:
        BadInput: if a file is missing.
        DamagedFile: if a file's content is not the original's, by its MD5.
    """
    return _mnist_like("MNIST", MNIST_MD5, DIGITS, root, download)


@with_extent(lambda **_: Extent(60_000, 10_000, (1, 28, 28), 10))
def fashion_mnist(root: Path, *, download: bool = False) -> Source:
    """Fashion-MNIST, 28x28 grey, from the idx or .gz files in `FashionMNIST/raw` of the data root.

    Raises:
        BadInput: if a file is missing.
        DamagedFile: if a file's content is not the original's, by its MD5.
    """
    return _mnist_like("FashionMNIST", FASHION_MNIST_MD5, CLOTHES, root, download)


@with_extent(lambda **_: Extent(50_000, 10_000, (3, 32, 32), 10))
def cifar10(root: Path, *, download: bool = False) -> Source:
    """CIFAR-10, 32x32 colour, from the pickled batches in `cifar-10-batches-py`.

    Unpickling can execute code, so only files with the original's MD5 are unpickled.

    Raises:
        BadInput: if a file is missing.
        DamagedFile: if a file is not the original, by its MD5.
    """
    if download:
        _download("CIFAR10", root, CIFAR10_FOLDER, [[name] for name in CIFAR10_MD5])
    layout = f"{CIFAR10_FOLDER}/data_batch_1 .. data_batch_5 and test_batch"
    folder = data_folder(root, CIFAR10_FOLDER, layout)
    files = [_checked(folder / name, _content(folder / name), CIFAR10_MD5) for name in CIFAR10_MD5]
    batches = [pickle.loads(file, encoding="latin1") for file in files]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch["labels"] for batch in batches])
    n_train = len(images) - len(batches[-1]["labels"])
    return in_memory(CIFAR10_CLASSES, images, labels, n_train)


@with_extent(lambda **_: Extent(50_000, 10_000, (1, 28, 28), 10))
def cifar10_grey(root: Path, *, download: bool = False) -> Source:
    """CIFAR-10 as 28x28 grey images, as in "feature losses".

    Grey by the weights of ITU-R BT.601, then bilinear interpolation at the pixels' centres
    (without antialiasing), rounded once at the end. Raises as `cifar10`.
    """
    colour = cifar10(root, download=download)
    return dataclasses.replace(colour, read=lambda ids: _small_grey(colour.read(ids)))


def _small_grey(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 3, 32, 32] to uint8 [N, 1, 28, 28]."""
    grey = np.tensordot(images, np.array([0.299, 0.587, 0.114]), axes=(1, 0))
    centres = (np.arange(28) + 0.5) * 32 / 28 - 0.5
    weights = np.stack([np.interp(centres, np.arange(32), row) for row in np.eye(32)])
    small = np.swapaxes(np.swapaxes(grey @ weights, 1, 2) @ weights, 1, 2)
    return np.rint(small).astype(np.uint8)[:, None]


def _mnist_like(name: str, md5s: dict, classes: list[str], root: Path, download: bool) -> Source:
    folder = f"{name}/raw"
    if download:
        _download(name, root, folder, [(f"{file}.gz", file) for file in md5s])
    path = data_folder(root, folder, f"{folder}/ with {', '.join(md5s)}, as they are or as .gz")
    train, train_labels, test, test_labels = (_idx(path, file, md5s) for file in md5s)
    images, labels = np.concatenate([train, test])[:, None], [train_labels, test_labels]
    return in_memory(classes, images, np.concatenate(labels), len(train))


def _idx(folder: Path, file: str, md5s: dict[str, str]) -> np.ndarray:
    """An array in idx format (magic number, lengths, bytes), from the .gz file if there is one."""
    compressed, path = folder / f"{file}.gz", folder / file
    if compressed.exists():
        path, content = compressed, _decompressed(compressed)
    else:
        content = _content(path)
    content = _checked(path, content, md5s)
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    if reason := why_not_readable(path):
        raise BadInput(f"{path} {reason}; put the data set's original file there")
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); put the data set's original file there"
        ) from error


def _decompressed(path: Path) -> bytes:
    """The content of a .gz file, up to one byte more than the largest of these files has."""
    try:
        with gzip.open(io.BytesIO(_content(path))) as file:
            return file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedFile(
            f"{path} is not the original file: it cannot be unpacked ({error}); delete it and "
            "fetch it again"
        ) from error


def _checked(path: Path, content: bytes, md5s: dict[str, str]) -> bytes:
    """The content, if its MD5 is the published one of the file's name without `.gz`."""
    md5, name = hashlib.md5(content, usedforsecurity=False).hexdigest(), path.name.split(".")[0]
    if md5 == md5s[name]:
        return content
    others = [other for other, published in md5s.items() if published == md5]
    reason = f"it contains {others[0]}" if others else f"its MD5 is {md5} and not {md5s[name]}"
    raise DamagedFile(f"{path} is not the original file: {reason}; delete it and fetch it again")


def _download(name: str, root: Path | None, folder: str, files) -> None:
    """Download a data set unless each of its files is there; `files` lists names of each."""
    if root is None:
        raise BadInput("data_root is not set; `download: true` needs a folder to download to")
    with download_lock(root, name):
        if all(any((root / folder / alias).exists() for alias in names) for names in files):
            return
        from torchvision import datasets

        try:
            getattr(datasets, name)(root, download=True)
        except (OSError, RuntimeError) as error:
            raise BadInput(
                f"{name} could not be downloaded into {root} ({error}); "
                f"without a network, put its files into {root / folder} by hand"
            ) from error
