"""File locks that other processes see and that the kernel releases, after `kill -9` too."""

import contextlib
import errno
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

# What `flock` fails with on a file system that has no locks.
_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def acquire(path: Path, wait: bool = True) -> "BaseFileLock | None":
    """Lock a file, which is created if it is missing, so that every user can lock it.

    Where another process holds the lock, log a warning and wait for it, or return None if `wait`
    is false. A file system without locks only causes a warning.

    Returns:
        the lock, which is released when it is deleted or when this process ends.

    Raises:
        OSError: the file can be neither opened nor created.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o666, fallback_to_soft=False, on_acquired=_write_holder)
    waiting = False
    while not lock.is_locked:
        try:
            lock.acquire(blocking=waiting)
        except Timeout:
            if not wait:
                return None
            log.warning("%s is locked by process %s: waiting for it to end", path, holder(path))
            waiting = True
        except FileNotFoundError:
            # The process that held the lock has removed the folder.
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            reason = error.strerror
            log.warning("%s cannot be locked (%s): make sure that no second job runs", path, reason)
            break
    return lock


def holder(path: Path) -> str:
    """The process and machine that locked the file last, or "unknown"."""
    try:
        return path.read_bytes()[:200].decode(errors="replace") or "unknown"
    except OSError:
        return "unknown"


def _write_holder(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
