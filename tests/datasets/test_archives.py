import gzip
import hashlib
import importlib.util
import os
import pickle
import struct
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest

from advdenoise.datasets import archives
from advdenoise.errors import BadInput, DamagedFile
from tests.places import put_in_place
from tests.real_data import ROOT, needs

MNIST, CIFAR10 = "MNIST", "cifar-10-batches-py"


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    return [
        random.randint(0, 256, (6, 28, 28)),
        np.arange(6),
        random.randint(0, 256, (4, 28, 28)),
        np.arange(4)[::-1],
    ]


@pytest.fixture
def plain(tmp_path, arrays, monkeypatch):
    """A data root with both data sets in idx format; the checksums are replaced by theirs."""
    for name, constant in (("MNIST", "MNIST_MD5"), ("FashionMNIST", "FASHION_MNIST_MD5")):
        folder = tmp_path / name / "raw"
        folder.mkdir(parents=True)
        contents = dict(zip(getattr(archives, constant), map(idx, arrays), strict=True))
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        monkeypatch.setattr(archives, constant, {f: md5(c) for f, c in contents.items()})
    return tmp_path


@pytest.fixture
def compressed(plain):
    """The same, as .gz files."""
    for path in plain.glob("*/raw/*"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return plain


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A data root with six tiny batches; the checksums are replaced by theirs."""
    random = np.random.RandomState(1)
    folder = tmp_path / archives.CIFAR10_FOLDER
    folder.mkdir()
    checksums = {}
    for name in archives.CIFAR10_MD5:
        data = random.randint(0, 256, (3, 3072)).astype(np.uint8)
        content = pickle.dumps({"data": data, "labels": [0, 9, 4]}, protocol=2)
        (folder / name).write_bytes(content)
        checksums[name] = md5(content)
    monkeypatch.setattr(archives, "CIFAR10_MD5", checksums)
    return tmp_path


@pytest.mark.parametrize("reader", [archives.mnist, archives.fashion_mnist])
@pytest.mark.parametrize("form", ["plain", "compressed"])
def test_idx_files(reader, form, request, arrays):
    source = reader(request.getfixturevalue(form))
    assert len(source.classes) == 10
    assert source.train_labels.tolist() == list(range(6))
    assert source.test_labels.tolist() == [3, 2, 1, 0]
    assert source.test_labels.dtype == np.int64
    images = source.read(np.array([7, 0]))
    assert images.dtype == np.uint8
    assert np.array_equal(images, np.stack([arrays[2][1], arrays[0][0]])[:, None])


DAMAGES = {
    "cut short": lambda content: content[:-10],
    "empty": lambda content: b"",
    "a page": lambda content: b"<html>not found</html>",
    "overwritten": lambda content: content[:40] + b"\xff" * 9 + content[49:],
    "longer": lambda content: content + b"\1",
    "labels of 77": lambda content: content[:8] + bytes([77]) * (len(content) - 8),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("form", ["plain", "compressed"])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_file_raises(form, file, damage, request):
    root = request.getfixturevalue(form)
    path = root / "MNIST/raw" / (file if form == "plain" else f"{file}.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile, match=rf"{path.name} is not the original file: .*fetch it"):
        archives.mnist(root)
    archives.fashion_mnist(root)


@pytest.mark.parametrize("form", ["plain", "compressed"])
def test_another_content_raises_with_and_without_compression(form, request, arrays):
    root = request.getfixturevalue(form)
    content = idx(np.full((6, 32, 32), 255))
    path = root / "MNIST/raw/train-images-idx3-ubyte"
    if form == "compressed":
        path, content = path.with_name(f"{path.name}.gz"), gzip.compress(content, 1)
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="is not the original file: its MD5"):
        archives.mnist(root)


def test_other_compression_of_the_same_content(compressed):
    path = compressed / "MNIST/raw/train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content, 1, mtime=7))
    assert len(archives.mnist(compressed).train_labels) == 6


def test_swapped_files_are_named(plain):
    folder = plain / "MNIST/raw"
    train, test = folder / "train-images-idx3-ubyte", folder / "t10k-images-idx3-ubyte"
    train.rename(folder / "x")
    test.rename(train)
    (folder / "x").rename(test)
    with pytest.raises(DamagedFile, match="train-images.* it contains t10k-images-idx3-ubyte; d"):
        archives.mnist(plain)


def test_decompression_stops_at_the_largest_size(compressed, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST", 1 << 16)
    path = compressed / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(DamagedFile, match="t10k-labels-idx1-ubyte.gz is not the original file"):
        archives.mnist(compressed)
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "dangling"])
def test_paths_that_are_not_files_raise_and_do_not_block(plain, cifar, kind):
    for reader, file in (
        (archives.mnist, "MNIST/raw/train-images-idx3-ubyte"),
        (archives.cifar10, "cifar-10-batches-py/data_batch_2"),
    ):
        path = plain / file
        path.unlink()
        put_in_place(path, kind)
        reason = {"pipe": "is a named pipe", "folder": "is a folder"}.get(kind, "is a broken link")
        with pytest.raises(BadInput, match=f"{path.name} {reason}"):
            reader(plain)


def test_missing_idx_file(plain):
    (plain / "FashionMNIST/raw/train-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match="train-labels-idx1-ubyte does not exist"):
        archives.fashion_mnist(plain)


def test_cifar_batches(cifar):
    source = archives.cifar10(cifar)
    assert source.train_labels.tolist() == [0, 9, 4] * 5
    assert source.test_labels.tolist() == [0, 9, 4]
    last = pickle.loads((cifar / archives.CIFAR10_FOLDER / "test_batch").read_bytes())
    images = source.read(np.array([17, 15]))
    assert images.dtype == np.uint8
    assert np.array_equal(images.reshape(2, -1), last["data"][[2, 0]])


def test_no_batch_of_wrong_checksum_is_unpickled(cifar, monkeypatch):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(cifar / "executed"),)

    (cifar / archives.CIFAR10_FOLDER / "data_batch_3").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DamagedFile, match="data_batch_3 is not the original file: its MD5"):
        archives.cifar10(cifar)
    assert not (cifar / "executed").exists()


def test_missing_cifar_batch(cifar):
    (cifar / archives.CIFAR10_FOLDER / "test_batch").unlink()
    with pytest.raises(BadInput, match="test_batch does not exist"):
        archives.cifar10(cifar)


def test_a_cifar_batch_twice(cifar):
    folder = cifar / archives.CIFAR10_FOLDER
    (folder / "data_batch_2").write_bytes((folder / "data_batch_1").read_bytes())
    with pytest.raises(DamagedFile, match="data_batch_2 is not .* it contains data_batch_1"):
        archives.cifar10(cifar)


def test_grey_is_weighted_and_interpolated(cifar):
    colour, grey = archives.cifar10(cifar), archives.cifar10_grey(cifar)
    ids = np.arange(18)
    red, green, blue = colour.read(ids).astype(float).transpose(1, 0, 2, 3)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    small = grey.read(ids)
    assert small.shape == (18, 1, 28, 28)
    assert small.dtype == np.uint8
    for y, x in ((0, 0), (5, 22), (27, 27)):
        v, u = ((i + 0.5) * 32 / 28 - 0.5 for i in (y, x))
        top, left = int(v), int(u)
        square = luma[:, top : top + 2, left : left + 2]
        along = square[:, :, 0] * (1 - u + left) + square[:, :, 1] * (u - left)
        expected = along[:, 0] * (1 - v + top) + along[:, 1] * (v - top)
        assert np.abs(small[:, 0, y, x] - expected).max() <= 0.5 + 1e-9


def test_constant_colours_become_their_grey():
    images = np.zeros((3, 3, 32, 32), np.uint8)
    images[1] = 255
    images[2, 0] = 255
    small = archives._small_grey(images)
    assert [np.unique(image).tolist() for image in small] == [[0], [255], [76]]


READERS = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar10_grey": "cifar-10-batches-py",
}


@pytest.mark.parametrize(("name", "folder"), READERS.items())
def test_missing_root_or_folder(name, folder, tmp_path):
    reader = getattr(archives, name)
    with pytest.raises(BadInput, match=f"^data_root is not set.*{folder}"):
        reader(None)
    with pytest.raises(BadInput, match=f"^data_root: .* does not exist; expected {folder}"):
        reader(tmp_path)
    with pytest.raises(BadInput, match="^data_root is not set"):
        reader(None, download=True)


def replace_torchvision(monkeypatch, action):
    """Replace torchvision by a module whose data sets call `action(root)`."""
    module = types.ModuleType("torchvision")
    module.datasets = types.SimpleNamespace(
        MNIST=lambda root, download: action(Path(root)),
        CIFAR10=lambda root, download: action(Path(root)),
    )
    monkeypatch.setitem(sys.modules, "torchvision", module)


@pytest.mark.parametrize("error", [OSError("unreachable"), RuntimeError("Error downloading")])
def test_download_without_a_network(error, tmp_path, monkeypatch):
    def fail(root):
        raise error

    replace_torchvision(monkeypatch, fail)
    with pytest.raises(BadInput, match="MNIST could not be downloaded into .*by hand"):
        archives.mnist(tmp_path / "new", download=True)
    with pytest.raises(BadInput, match="CIFAR10 could not be downloaded"):
        archives.cifar10(tmp_path / "new", download=True)


@pytest.mark.parametrize("reader", [archives.mnist, archives.cifar10])
def test_download_into_a_file(reader, tmp_path):
    (tmp_path / "root").write_text("")
    with pytest.raises(BadInput, match="^data_root: .*root cannot be written to .*another folder"):
        reader(tmp_path / "root", download=True)


def test_missing_files_are_downloaded(compressed, tmp_path, monkeypatch):
    target = tmp_path / "new"
    replace_torchvision(monkeypatch, lambda root: (compressed / "MNIST").rename(root / "MNIST"))
    assert len(archives.mnist(target, download=True).train_labels) == 6


def test_existing_files_are_not_downloaded(cifar, monkeypatch):
    replace_torchvision(monkeypatch, lambda root: pytest.fail("downloaded again"))
    assert len(archives.cifar10(cifar, download=True).test_labels) == 3


def test_checksums_are_those_of_torchvision():
    """Compare them with its source text: importing it takes seconds."""
    package = Path(importlib.util.find_spec("torchvision").submodule_search_locations[0])
    text = (package / "datasets" / "cifar.py").read_text()
    assert len(archives.CIFAR10_MD5) == 6
    for file, checksum in archives.CIFAR10_MD5.items():
        assert f'"{file}", "{checksum}"' in text


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("mnist", marks=needs(MNIST)),
        pytest.param("cifar10", marks=needs(CIFAR10)),
        pytest.param("cifar10_grey", marks=needs(CIFAR10)),
    ],
)
def test_real_archives(name):
    source = getattr(archives, name)(ROOT)
    n_train, shape = {
        "mnist": (60_000, (1, 28, 28)),
        "cifar10": (50_000, (3, 32, 32)),
        "cifar10_grey": (50_000, (1, 28, 28)),
    }[name]
    assert (len(source.train_labels), len(source.test_labels)) == (n_train, 10_000)
    images = source.read(np.array([0, n_train]))
    assert images.shape == (2, *shape)
    first = {"mnist": (5, 7)}.get(name, (6, 3))
    assert (source.train_labels[0], source.test_labels[0]) == first


@needs(CIFAR10)
def test_real_cifar_has_the_published_mean():
    """z-score constants of Al Bared and Nassar 2021, section 5: mean 120.70748, std 64.150024."""
    source = archives.cifar10(ROOT)
    images = source.read(np.arange(50_000))
    assert images.mean() == pytest.approx(120.70748, abs=1e-3)
    assert images.std() == pytest.approx(64.150024, abs=1e-3)
