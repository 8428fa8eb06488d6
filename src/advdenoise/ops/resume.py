"""State of unfinished jobs on disk: its folder and lock, and the signals that ask for it.

A job keeps its state in `{resume}/{path of its output}/{digest}/` until the output is in place.
"""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advdenoise.ops import locks
from advdenoise.ops.files import remove, why_not_readable

log = logging.getLogger(__name__)


def state_folder(resume: Path, output: Path) -> Path:
    """The folder of an output's state; the output's path may be absolute or relative."""
    return resume / output.relative_to(output.anchor)


@contextmanager
def state_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a state folder; a second job for the same output logs a warning and waits.

    A workflow killed by `kill -9` leaves its jobs running, so two jobs can work on one output. On a
    file system without locks a warning is logged and nobody waits. Whatever is not a folder in the
    place of this folder or of one above it is removed.
    """
    for path in (*reversed(folder.parents), folder):
        if os.path.lexists(path) and not path.is_dir():
            remove_damaged(path, "it is not a folder")
    file = _lock_file(folder)
    if os.path.lexists(file) and (reason := why_not_readable(file)):
        remove_damaged(file, f"it {reason}")
    lock = locks.acquire(file)
    try:
        yield
    finally:
        if lock:
            lock.release()


def remove_state(folder: Path) -> None:
    """Remove the state folder once the outputs are written.

    If another job has locked it meanwhile, that job will remove it.
    """
    if not folder.exists():
        return
    lock = locks.acquire(_lock_file(folder), wait=False)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _lock_file(folder: Path) -> Path:
    return folder / "lock"


def prepare_state(folder: Path, digest: str) -> Path:
    """The folder of the state with this digest; states with other digests are removed.

    To be called while the lock is held.
    """
    for other in folder.iterdir():
        if other.is_dir() and other.name != digest:
            log.info("%s belongs to other settings or code and is not resumed", other)
            shutil.rmtree(other, ignore_errors=True)
    own = folder / digest
    if os.path.lexists(own) and not own.is_dir():
        remove_damaged(own, "it is not a folder")
    return own


def remove_damaged(path: Path, reason: str) -> None:
    """Remove a damaged state, or whatever is in its place, and log a warning."""
    log.warning("%s is damaged (%s): it is removed and computed again", path, reason)
    remove(path)


class Interruption:
    """Records SIGTERM and SIGUSR1 in this context, to be handled between two batches.

    `signal` is the name of the signal received last, or None.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self):
        self.signal: str | None = None
        self._handlers = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, self._record) for number in self._SIGNALS
            }
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, _frame) -> None:
        self.signal = signal.Signals(number).name
