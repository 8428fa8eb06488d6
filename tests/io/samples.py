"""One small file of each format, for tests of reading and writing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import torch

from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.io.json_files import read_json, write_json
from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.weights import read_weights, write_weights

ROOT = Path(__file__).parents[2]
PROVENANCE = {"settings": {"epsilon": 0.1, "steps": 8}, "commit": "0123abc", "wall_seconds": 1.5}
SUFFIXES = ["h5", "parquet", "safetensors", "json"]


def python(code: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )


def table(rows: int = 40) -> pa.Table:
    generator = np.random.default_rng(0)
    vectors = pa.array(generator.normal(size=rows * 3).astype("f4"))
    return pa.table(
        {
            "id": np.arange(rows),
            "threat": ["clean", "fgsm@cnn4é"] * (rows // 2),
            "epsilon": pa.array([None, 0.1] * (rows // 2), pa.float32()),
            "success": pa.array([None, True] * (rows // 2)),
            "hidden": pa.FixedSizeListArray.from_arrays(vectors, 3),
        }
    )


def write(path: Path) -> None:
    """Write a small file, of the format of its suffix, with all that such files may hold."""
    generator = np.random.default_rng(0)
    if path.suffix == ".h5":
        with create_hdf5(path, PROVENANCE, "images") as file:
            file.attrs["classes"] = json.dumps(["zero", "one"] * 10)
            images = generator.integers(0, 30, (9, 1, 8, 8), dtype=np.uint8)
            add_array(file, "images", images, rows=4)
            add_array(file, "none", shape=(0, 3), dtype="f4")
            group = file.create_group("points/e1")
            group.attrs["epsilon"] = 0.25
            perturbation = generator.normal(size=(9, 1, 8, 8)).astype("f4")
            add_array(group, "perturbation", perturbation, rows=5, codec="gzip")
    elif path.suffix == ".parquet":
        write_table(path, table(), PROVENANCE)
    elif path.suffix == ".safetensors":
        write_weights(path, {"a": torch.arange(9.0), "n": torch.tensor(3)}, PROVENANCE)
    else:
        write_json(path, {"mean": 0.1, "shares": [0.25, 1], "name": "é"}, PROVENANCE)


def read(path: Path) -> dict:
    """All that can be read from such a file, comparable with ==."""
    contents = {"provenance": read_provenance(path)}
    if path.suffix == ".h5":
        with open_hdf5(path, "images") as file:
            contents["/"] = dict(file.attrs)
            file.visititems(lambda name, item: contents.update({name: hdf5_item(item)}))
    elif path.suffix == ".parquet":
        contents["table"] = read_table(path).to_pydict()
    elif path.suffix == ".safetensors":
        tensors, contents["read"] = read_weights(path)
        contents |= {name: (tensor.dtype, tensor.tolist()) for name, tensor in tensors.items()}
    else:
        contents["value"] = read_json(path)
    return contents


def hdf5_item(item):
    if isinstance(item, h5py.Dataset):
        return item.dtype.str, item.shape, item[...].tobytes()
    return dict(item.attrs)
