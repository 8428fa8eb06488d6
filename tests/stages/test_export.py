"""Exported sets: plain arrays that any h5py reads, without this project."""

import json
import subprocess
import sys

import numpy as np

from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.provenance import read_provenance
from advdenoise.stages.data import open_images

FILE = "seed0/digits/exported/{}/few.h5"

# What somebody else would write: h5py and nothing more.
READER = """
import json, sys
import h5py
with h5py.File(sys.argv[1], "r") as file:
    found = {
        name: {
            "shape": group["images"].shape, "dtype": str(group["images"].dtype),
            "sum": float(group["images"][:].sum(dtype="f8")), "labels": group["labels"][:].tolist(),
            "ids": group["ids"][:].tolist(), "codec": group["images"].compression,
            "epsilon": group["epsilon"][:].tolist() if "epsilon" in group else None,
        }
        for name, group in file.items()
    }
    found["classes"] = json.loads(file.attrs["classes"])
assert not {"hdf5plugin", "scripts", "torch"} & set(sys.modules)
print(json.dumps(found))
"""


def read(path, tmp_path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", READER, path],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
    )
    return json.loads(done.stdout)


def test_adversarial_images_are_readable_by_h5py_alone(world, tmp_path):
    result = read(world.make(FILE.format("cycled@small")), tmp_path)
    with (
        open_images(world.make("images/digits/few.h5")) as clean,
        open_hdf5(world.make("seed0/digits/adversarial/cycled@small/few.h5")) as attacked,
    ):
        assert result.pop("classes") == clean.classes
        assert set(result) == {"fgsm", "pgd"}
        for point, exported in result.items():
            group = attacked["points"][point]
            images = clean.stored[:] / np.float32(255) + group["perturbation"][:]
            assert exported["shape"] == list(images.shape) and exported["dtype"] == "float32"
            assert np.isclose(exported["sum"], images.sum(dtype="f8"), rtol=1e-6)
            assert (
                exported["labels"] == clean.labels.tolist()
                and exported["ids"] == clean.ids.tolist()
            )
            assert exported["epsilon"] == group["epsilon"][:].tolist()
            assert exported["codec"] == "gzip"


def test_clean_images_stand_in_a_group_of_their_own(world, tmp_path):
    result = read(world.make(FILE.format("clean")), tmp_path)
    with open_images(world.make("images/digits/few.h5")) as clean:
        assert result.pop("classes") == clean.classes
        total = (clean.stored[:] / np.float32(255)).sum(dtype="f8")
    assert set(result) == {"clean"} and result["clean"]["epsilon"] is None
    assert np.isclose(result["clean"]["sum"], total, rtol=1e-6)


def test_images_are_exact_and_in_the_box(world):
    with (
        open_hdf5(world.make(FILE.format("fgsm@small")), "exported") as file,
        open_images(world.make("images/digits/few.h5")) as clean,
        open_hdf5(world.make("seed0/digits/adversarial/fgsm@small/few.h5")) as attacked,
    ):
        images = file["default/images"][:]
        assert images.min() >= 0 and images.max() <= 1
        expected = clean.stored[:] / np.float32(255)
        expected = expected + attacked["points/default/perturbation"][:]
        assert np.allclose(images, expected, atol=1e-7)
    path = world.make(FILE.format("fgsm@small"))
    assert read_provenance(path)["settings"]["attacks"]["fgsm"]
