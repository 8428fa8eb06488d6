import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from advdenoise.datasets import embedded
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.provenance import read_provenance
from advdenoise.stages import images
from advdenoise.stages.data import open_images
from tests.real_data import ROOT, needs


def settings(split="test", function="embedded.digits", splits=None, **inputs):
    entry = {"function": function, "settings": inputs, "splits": splits or {}}
    return {"dataset": "mine", "entry": entry, "split": split}


def test_file_holds_the_split(tmp_path):
    path = tmp_path / "images/mine/few.h5"
    job_settings = settings("few", splits={"few": {"of": "train", "size": 50}})
    images.run(job_settings, path)
    source = embedded.digits()
    with open_hdf5(path, "images") as file:
        ids = file["ids"][:]
        assert (len(ids), file["ids"].dtype, file["labels"].dtype) == (50, np.int64, np.int64)
        assert ids.max() < 1437
        assert np.array_equal(file["labels"][:], source.train_labels[ids])
        stored = file["images"][:]
        assert stored.dtype == np.uint8
        assert np.array_equal(stored, source.read(ids))
        assert file["images"].attrs["sha256"] == hashlib.sha256(stored.tobytes()).hexdigest()
        assert json.loads(file.attrs["classes"]) == source.classes
        assert (file.attrs["dataset"], file.attrs["split"]) == ("mine", "few")
    assert read_provenance(path)["settings"] == job_settings


def test_same_bytes_in_every_file(tmp_path):
    stored = []
    for name in ("a.h5", "b.h5"):
        images.run(settings(function="embedded.patches", train=3, test=4), tmp_path / name)
        with open_hdf5(tmp_path / name) as file:
            stored.append((file["images"][:], file["ids"][:]))
    assert stored[0][0].shape == (32, 3, 32, 32)
    assert all(np.array_equal(*pair) for pair in zip(*stored, strict=True))


def test_a_dense_set_has_masks_and_no_labels(tmp_path):
    path = tmp_path / "scenes.h5"
    images.run(settings(function="embedded.scenes", train=2, test=5, size=65), path)
    source = embedded.scenes(train=2, test=5, size=65)
    with open_hdf5(path, "images") as file:
        assert sorted(file) == ["ids", "images", "masks"]
        assert (file["masks"].dtype, file["masks"].chunks) == (np.uint8, (1, 65, 65))
        ids = file["ids"][:]
        assert np.array_equal(file["masks"][:], source.masks(ids))
    with open_images(path) as clean:
        assert clean.dense and len(clean) == 5
        batch = clean.batch(np.array([1, 3]), torch.device("cpu"))
        assert batch.labels.dtype == torch.int64
        assert np.array_equal(batch.labels.numpy(), source.masks(ids[[1, 3]]))
        assert [len(b.labels) for b in clean.batches(2, torch.device("cpu"))] == [2, 2, 1]


def test_a_classification_set_has_labels_and_no_masks(tmp_path):
    path = tmp_path / "digits.h5"
    images.run(settings("few", splits={"few": {"of": "test", "size": 7}}), path)
    with open_images(path) as clean:
        assert not clean.dense and clean.labels.shape == (7,)
        assert clean.batch(slice(2, 5), torch.device("cpu")).labels.dtype == torch.int64


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("cat", 30), ("dog", 220)):
        for i in range(20):
            path = tmp_path / "val" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (400, 400), (colour, i, 0)).save(path)
    return tmp_path


def test_images_are_read_in_blocks(folder, tmp_path, monkeypatch):
    """No read asks for more images than a chunk of the file holds."""
    from advdenoise.datasets import folders

    job_settings = []
    reader = folders._reader

    def counting(*arguments):
        read = reader(*arguments)
        return lambda ids: job_settings.append(len(ids)) or read(ids)

    monkeypatch.setattr(folders, "_reader", counting)
    output = tmp_path / "test.h5"
    inputs = {"train": None, "size": 400}
    images.run(settings(function="folders.imagenet_folder", **inputs), output, str(folder))
    with open_hdf5(output) as file:
        chunk = file["images"].chunks[0]
        assert chunk < 40
        dark = file["images"][:, 0].max(axis=(1, 2)) < 100
        assert np.array_equal(file["labels"][:], np.where(dark, 0, 1))
        # the green channel tells the images apart
        # the green channel holds the number in the file's name; ids follow the sorted names
        numbers = np.array(sorted(range(20), key=str))
        assert np.array_equal(file["images"][:, 1, 0, 0], numbers[file["ids"][:] % 20])
    assert max(job_settings) <= chunk
    assert sum(job_settings) == 41


def test_broken_image_leaves_no_file(folder, tmp_path):
    broken = folder / "val/dog/7.png"
    broken.write_bytes(broken.read_bytes()[:60])
    output = tmp_path / "out/test.h5"
    with pytest.raises(DamagedFile, match="val/dog/7.png is not a readable image"):
        images.run(settings(function="folders.imagenet_folder", train=None), output, str(folder))
    assert list(output.parent.glob("**/*")) == []


def test_missing_root(tmp_path):
    with pytest.raises(BadInput, match="^data_root is not set"):
        images.run(settings(function="archives.mnist"), tmp_path / "x.h5")


def test_split_that_is_too_large(tmp_path):
    job_settings = settings("held_out", splits={"held_out": {"size": 1438}})
    with pytest.raises(BadInput, match=r"^datasets\.mine\.splits\.held_out\.size: 1438 .* 1437"):
        images.run(job_settings, tmp_path / "x.h5")


@pytest.mark.parametrize(
    "function",
    [
        pytest.param("archives.mnist", marks=needs("MNIST")),
        pytest.param("archives.cifar10_grey", marks=needs("cifar-10-batches-py")),
        pytest.param("folders.tiny_imagenet", marks=needs("tiny-imagenet-200")),
    ],
)
def test_real_data(function, tmp_path):
    job_settings = settings("few", function, {"few": {"of": "test", "size": 70}})
    images.run(job_settings, tmp_path / "few.h5", ROOT)
    with open_hdf5(tmp_path / "few.h5", "images") as file:
        assert len(file["images"]) == 70
        assert len(set(file["labels"][:])) > 5
