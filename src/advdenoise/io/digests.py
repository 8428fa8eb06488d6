"""Short digests of files and of settings."""

import functools
import hashlib
import json
from pathlib import Path


@functools.cache
def file_digest(path: Path) -> str:
    """A digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def settings_digest(settings: dict) -> str:
    """A short digest of a job's settings, in whatever order they stand."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sha256(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
