"""SHA-256 of files and data, and the short digests that tell settings, images and states apart."""

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def sha256(data: str | bytes) -> str:
    """SHA-256 of bytes, or of a text as UTF-8, in hexadecimal."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def file_digest(path: Path) -> str:
    """A digest of a file's bytes, read once per process."""
    return file_sha256(path)[:16]


def settings_digest(settings: dict) -> str:
    """A digest of a job's settings, whatever the order of their keys."""
    return sha256(json.dumps(settings, sort_keys=True))[:12]


def ids_digest(ids: "np.ndarray") -> str:
    """The number of images and a digest of their ids, whatever the order of these."""
    import numpy as np

    ordered = np.sort(np.asarray(ids, np.int64))
    return f"{len(ordered)}-{sha256(ordered.tobytes())[:12]}"


def state_digest(settings: dict, code: str, *inputs: Path) -> str:
    """A digest of what the state of an unfinished job depends on: settings, code and input files.

    Files count by size and modification time, because hashing could cost more than the job.
    """
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    return sha256(json.dumps([settings, code, stats], sort_keys=True))[:16]
