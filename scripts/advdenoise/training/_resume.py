"""What outlives a job that is stopped or killed: its state, the lock on it, the signals."""

import fcntl
import logging
import os
import shutil
import signal
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from scripts.advdenoise.store import replacing

log = logging.getLogger(__name__)

STATE = "state.pt"
DIVERGED = "diverged"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a state folder; a second job for the same output waits here and says so.

    A workflow killed by `kill -9` leaves its running jobs behind, so two jobs can be at work for
    one output. A file system without locks is tolerated: a warning is logged and nobody waits.
    """
    handle = _lock(folder, wait=True)
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
    handle = _lock(folder, wait=False)
    if handle is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _lock(folder: Path, wait: bool) -> int | None:
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _flock(handle, path, wait):
                os.close(handle)
                return None
            if _is_file(handle, path):  # not removed meanwhile by the job that was waited for
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _flock(handle: int, path: Path, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        holder = os.pread(handle, 200, 0).decode(errors="replace") or "unknown"
        log.warning("%s is held by process %s: waiting for it to end", path, holder)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s cannot be locked (%s): see that no second job runs", path, error.strerror)
    return True


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class State:
    """The state file of one training, `folder/digest/state.pt`.

    States of other digests are removed: what made them has changed. Use it under the lock.
    """

    def __init__(self, folder: Path, digest: str):
        self.path = folder / digest / STATE
        self._diverged = folder / digest / DIVERGED
        for other in folder.iterdir():
            if other.is_dir() and other.name != digest:
                log.info("%s is of other settings or code: not resumed", other)
                shutil.rmtree(other, ignore_errors=True)

    def save(self, state: dict) -> None:
        """Write a dictionary of tensors, numbers, strings, lists and dictionaries atomically."""
        self.path.parent.mkdir(exist_ok=True)
        with replacing(self.path) as temporary:
            torch.save(state, temporary)
        self._diverged.unlink(missing_ok=True)

    def load(self) -> dict | None:
        """The state on the CPU; None where there is none or a damaged one, which is removed."""
        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip() is not None:  # torch.load itself checks no checksums
                    raise ValueError("wrong checksum")
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            log.warning("%s is damaged (%s): training starts anew", self.path, reason)
            self.path.unlink()
            return None

    def diverged(self) -> bool:
        """Note that training came to nothing from this state; is there anything to resume?

        The first time the state stays, since the cause may have been a passing fault. The second
        time it is removed, so that no rerun is led into the same failure for ever.
        """
        if self.path.exists() and not self._diverged.exists():
            self._diverged.touch()
            return True
        shutil.rmtree(self.path.parent, ignore_errors=True)
        return False


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
