"""What lies at a path, before it is opened: a named pipe would be waited for without end."""

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from advdenoise.errors import BadInput

_SKEW = 10.0  # seconds by which the clock of a file server may be ahead
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def why_not_readable(path: Path) -> str | None:
    """Why a path cannot be read as a file, as the end of a sentence; None where it can.

    Links are followed. Nothing is opened, so that a pipe without a writer does not hang.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except ValueError:
        return "is no path"
    except OSError as error:
        return f"is a broken link ({error.strerror})" if os.path.islink(path) else _why(error)
    if kind != stat.S_IFREG:
        return f"is {_KINDS.get(kind, 'no regular file')}, not a file"
    return None if os.access(path, os.R_OK) else "cannot be read (Permission denied)"


def why_not_listable(path: Path) -> str | None:
    """As `why_not_readable`, of a folder whose entries are to be listed."""
    reason = why_not_readable(path)
    if reason is None:
        return "is a file, not a folder"
    if os.path.isdir(path):
        allowed = os.access(path, os.R_OK | os.X_OK)
        return None if allowed else "cannot be read (Permission denied)"
    return reason.replace("not a file", "not a folder")


def require_readable(folder: Path) -> None:
    """Raises BadInput where a folder is there and cannot be listed: it would look empty."""
    reason = why_not_listable(folder)
    if reason and reason.startswith("cannot be read"):
        raise BadInput(f"{folder}: {reason}; check its rights")


def check_paths(paths: Iterable[str | Path]) -> None:
    """Raises BadInput where a folder, a pipe or a broken link is in the place of a file.

    So does a file in the place of one of the folders above.
    """
    parents = set()
    for path in map(Path, paths):
        reason = why_not_readable(path)
        if reason and os.path.lexists(path) and not reason.startswith("cannot be read"):
            raise BadInput(f"{path}: {reason}; delete it and run the same command again")
        parents.update(path.parents)
    for folder in sorted(parents):
        if os.path.lexists(folder) and not folder.is_dir():
            raise BadInput(f"{folder}: is no folder; delete it and run the same command again")


def check_times(paths: Iterable[str | Path]) -> None:
    """Raises BadInput where a file was changed in the future, by a clock that is wrong.

    Snakemake removes what a job made of it, however long that took: it is older than its input.
    """
    latest = time.time() + _SKEW
    for path in map(Path, paths):
        with contextlib.suppress(OSError):
            if (changed := path.stat().st_mtime) > latest:
                when = datetime.fromtimestamp(changed).isoformat(" ", "seconds")
                raise BadInput(
                    f"{path}: its time of change, {when}, lies in the future; set the clock, and "
                    "run `find results -newermt now -exec touch {} +`"
                )


def _why(error: OSError) -> str:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "does not exist" if missing else f"cannot be read ({error.strerror})"


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
