"""What outlives a job that is stopped or killed: its state's folder and lock, the signals.

A job keeps its state in `{resume}/{path of its output}/{digest}/` until the output is in place.
"""

import hashlib
import json
import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advdenoise.ops import locks
from advdenoise.ops.files import remove, why_no_file

log = logging.getLogger(__name__)


def state_folder(resume: Path, output: Path) -> Path:
    """The folder of what is resumed, named by the output's path, be it absolute or not."""
    return resume / output.relative_to(output.anchor)


def state_digest(settings: dict, code: str, *inputs: Path) -> str:
    """What a state belongs to: settings, code and the very input files.

    Files are told apart by size and time of change: hashing them could cost more than the job.
    """
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    text = json.dumps([settings, code, stats], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a state folder; a second job for the same output waits here and says so.

    A workflow killed by `kill -9` leaves its running jobs behind, so two jobs can be at work for
    one output. A file system without locks is tolerated: a warning is logged and nobody waits.
    Whatever stands in the place of the folder, or of one above it, and is none is removed.
    """
    for path in (*reversed(folder.parents), folder):
        if os.path.lexists(path) and not path.is_dir():
            discard(path, "it is no folder")
    if os.path.lexists(_lock(folder)) and (why := why_no_file(_lock(folder))):
        discard(_lock(folder), f"it {why}")
    handle = locks.take(_lock(folder))
    try:
        yield
    finally:
        os.close(handle)


def forget(folder: Path) -> None:
    """Remove the state folder, once the outputs that it led to are written.

    Where another job holds the lock by now, that one removes it.
    """
    if not folder.exists():
        return
    handle = locks.take(_lock(folder), wait=False)
    if handle is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _lock(folder: Path) -> Path:
    return folder / "lock"


def own_state(folder: Path, digest: str) -> Path:
    """The place of this digest's state; states of others, whose maker has changed, are removed.

    Use it under the lock.
    """
    for other in folder.iterdir():
        if other.is_dir() and other.name != digest:
            log.info("%s is of other settings or code: not resumed", other)
            shutil.rmtree(other, ignore_errors=True)
    own = folder / digest
    if os.path.lexists(own) and not own.is_dir():
        discard(own, "it is no folder")
    return own


def discard(path: Path, reason: str) -> None:
    """Remove what stands in the place of a state and is none, and log it."""
    log.warning("%s is damaged (%s): it is removed, what it held is made anew", path, reason)
    remove(path)


class Interruption:
    """SIGTERM and SIGUSR1 are noted while in this context, to be honoured between two batches."""

    _SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self):
        self.asked: str | None = None
        self._before = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        self.asked = signal.Signals(number).name
