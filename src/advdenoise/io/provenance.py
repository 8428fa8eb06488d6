"""How a file was made: settings, code, libraries, machine and time."""

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from advdenoise.errors import BadInput
from advdenoise.io import hdf5, json_files, parquet, weights

_PACKAGES = (
    *("h5py", "hdf5plugin", "numpy", "pyarrow", "safetensors", "scikit-image", "scikit-learn"),
    *("scipy", "segmentation-models-pytorch", "snakemake", "timm", "torch", "torchvision"),
    "xgboost",
)


def collect_provenance(settings: dict, started: float) -> dict:
    """How a file is made: settings, code, libraries, machine and time, as plain JSON values.

    `started` is the job's `time.time()` at its start, and `wall_seconds` the time since. `commit`
    and `dirty` describe the checkout of this code and are None outside git. `device` is the GPU's
    name if this process has used one, else "cpu".
    """
    return {
        "settings": settings,
        **_checkout(),
        "versions": _versions(),
        "device": _device(),
        "wall_seconds": round(time.time() - started, 3),
        "host": platform.node(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _checkout() -> dict:
    folder = Path(__file__).resolve().parents[1]
    if exported := _exported(folder.parents[1] / ".git_archival.txt"):
        return {"commit": exported, "dirty": None}
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--", "."]
    # A git hook sets GIT_DIR to another folder. Without locks, jobs do not disturb each other.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    lines = done.stdout.splitlines()
    commit = next((x.split()[-1] for x in lines if x.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _exported(path: Path) -> str | None:
    """The commit that `git archive` has put into a file of its archive; None in a checkout."""
    with contextlib.suppress(OSError):
        match = re.fullmatch(r"node: ([0-9a-f]{40,64})\n", path.read_text(encoding="utf-8"))
        return match and match[1]
    return None


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return "cpu"
    return torch.cuda.get_device_name()


def read_provenance(path: str | Path) -> dict:
    """The provenance of a result file (.h5, .parquet, .safetensors, .json).

    Raises:
        BadInput: the file is missing or of another type.
        DamagedFile: it is damaged.
    """
    suffix = Path(path).suffix
    if suffix == ".h5":
        with hdf5.open_hdf5(path) as file:
            return json.loads(file.attrs["provenance"])
    if suffix == ".parquet":
        with parquet.open_parquet(path) as (_, contents):
            return contents["provenance"]
    if suffix == ".safetensors":
        return weights.weights_provenance(path)
    if suffix == ".json":
        return json_files.read_contents(path)["provenance"]
    raise BadInput(f"{path} has no provenance; give a .h5, .parquet, .safetensors or .json file.")
