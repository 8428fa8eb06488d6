"""Locks that one process holds and others see: free again when it ends, by `kill -9` too."""

import contextlib
import fcntl
import logging
import os
import socket
from pathlib import Path

log = logging.getLogger(__name__)


def take(path: Path, wait: bool = True) -> int | None:
    """Take the lock of a file, which is made where it is missing.

    Where another process holds it, wait and say so once, or give None where not to wait. A file
    system without locks is tolerated: a warning is logged and nobody waits.

    Returns:
        a handle: the lock is held until that is closed or this process ends.

    Raises:
        OSError: the file can be neither opened nor made.
    """
    while True:
        handle = _open(path)
        try:
            if not _flock(handle, path, wait):
                os.close(handle)
                return None
            if _is_file(handle, path):  # not removed meanwhile by the process that was waited for
                _sign(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def holder(path: Path) -> str:
    """Who took the lock last: process and machine."""
    try:
        return path.read_bytes()[:200].decode(errors="replace") or "unknown"
    except OSError:
        return "unknown"


def _open(path: Path) -> int:
    """Open a lock file that other users may have made, or make one that they can open.

    In a folder for everyone, as /tmp, Linux may refuse to open another's file with O_CREAT
    (fs.protected_regular); for the lock itself the right to read suffices.
    """
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # others come and go
            return _create(path)


def _create(path: Path) -> int:
    mask = os.umask(0)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    finally:
        os.umask(mask)


def _flock(handle: int, path: Path, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        log.warning("%s is held by process %s: waiting for it to end", path, holder(path))
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s cannot be locked (%s): see that no second job runs", path, error.strerror)
    return True


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Note who holds the lock, where this user may write to the file."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
