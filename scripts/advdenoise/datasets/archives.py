"""Data sets that come as a few archive files, in the folders that torchvision puts them in.

With `download: true` torchvision's own downloader fetches into the data root what is missing.
"""

import dataclasses
import fcntl
import gzip
import hashlib
import math
import pickle
import struct
from pathlib import Path

import numpy as np

from scripts.advdenoise.datasets._source import Extent, Source, below, holds, in_memory
from scripts.advdenoise.errors import BadInput, DamagedFile

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# MD5 of the files as their publishers offer them: of the .gz files, in the order of IDX_FILES
MNIST_MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION_MNIST_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

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


@holds(lambda **_: Extent(60_000, 10_000, (1, 28, 28), 10))
def mnist(root: Path, *, download: bool = False) -> Source:
    """MNIST, 28x28 grey, from `MNIST/raw` below the data root, unpacked or not.

    Raises `BadInput` where files are missing, `DamagedFile` where one is not the original.
    """
    return _mnist_like("MNIST", MNIST_MD5, DIGITS, root, download)


@holds(lambda **_: Extent(60_000, 10_000, (1, 28, 28), 10))
def fashion_mnist(root: Path, *, download: bool = False) -> Source:
    """Fashion-MNIST, 28x28 grey, from `FashionMNIST/raw` below the data root, unpacked or not.

    Raises `BadInput` where files are missing, `DamagedFile` where one is not the original.
    """
    return _mnist_like("FashionMNIST", FASHION_MNIST_MD5, CLOTHES, root, download)


@holds(lambda **_: Extent(50_000, 10_000, (3, 32, 32), 10))
def cifar10(root: Path, *, download: bool = False) -> Source:
    """CIFAR-10, 32x32 colour, from the pickled batches in `cifar-10-batches-py`.

    Unpickling runs what a file says, so no file is unpickled whose MD5 is not the original's.
    Raises `BadInput` where files are missing, `DamagedFile` where one is not the original.
    """
    if download:
        _download("CIFAR10", root, CIFAR10_FOLDER, [[name] for name in CIFAR10_MD5])
    layout = f"{CIFAR10_FOLDER}/data_batch_1 .. data_batch_5 and test_batch"
    folder = below(root, CIFAR10_FOLDER, layout)
    batches = [
        pickle.loads(_original(folder / name, md5), encoding="latin1")
        for name, md5 in CIFAR10_MD5.items()
    ]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch["labels"] for batch in batches])
    n_train = len(images) - len(batches[-1]["labels"])
    return in_memory(CIFAR10_CLASSES, images, labels, n_train)


@holds(lambda **_: Extent(50_000, 10_000, (1, 28, 28), 10))
def cifar10_grey(root: Path, *, download: bool = False) -> Source:
    """CIFAR-10 as 28x28 grey images, as the feature losses paper has it.

    Grey by the weights of ITU-R BT.601, then bilinear interpolation at the pixels' centres
    (without a smoothing filter), rounded once at the end. Errors as `cifar10`.
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


def _mnist_like(name: str, md5s, classes: list[str], root: Path, download: bool) -> Source:
    folder = f"{name}/raw"
    if download:
        _download(name, root, folder, [(f"{file}.gz", file) for file in IDX_FILES])
    path = below(root, folder, f"{folder}/ with {', '.join(IDX_FILES)}, as they are or as .gz")
    arrays = [_idx(path, file, md5) for file, md5 in zip(IDX_FILES, md5s, strict=True)]
    for part in (0, 2):
        if len(arrays[part]) != len(arrays[part + 1]):
            raise DamagedFile(
                f"{path}: {len(arrays[part])} images in {IDX_FILES[part]}, but "
                f"{len(arrays[part + 1])} labels in {IDX_FILES[part + 1]}; fetch both again"
            )
    images = np.concatenate([arrays[0], arrays[2]])[:, None]
    labels = np.concatenate([arrays[1], arrays[3]])
    return in_memory(classes, images, labels, len(arrays[0]))


def _idx(folder: Path, file: str, md5: str) -> np.ndarray:
    """An array in idx format (magic number, lengths, bytes), from the .gz file if it is there."""
    packed, path = folder / f"{file}.gz", folder / file
    if packed.exists():
        path, content = packed, gzip.decompress(_original(packed, md5))
    else:
        content = _content(path)
    dimensions = 3 if "idx3" in file else 1
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < start:
        raise DamagedFile(
            f"{path} is damaged: it does not begin as an idx{dimensions} file; fetch it again"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DamagedFile(
            f"{path} is damaged: {len(content) - start} bytes of data where its header says "
            f"{math.prod(shape)}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); put the data set's original file there"
        ) from error


def _original(path: Path, md5: str) -> bytes:
    """The bytes of a file whose MD5 is the published one."""
    content = _content(path)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DamagedFile(
            f"{path} is not the original file: its MD5 is {found} and not {md5}; "
            "delete it and fetch it again"
        )
    return content


def _download(name: str, root: Path | None, folder: str, files) -> None:
    """Fetch a data set into the root; `files` lists the names that each of its files may have.

    The jobs of several splits may ask at the same time, so one waits for the other.
    """
    if root is None:
        raise BadInput("data_root is not set; `download: true` needs a folder to download into")
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
