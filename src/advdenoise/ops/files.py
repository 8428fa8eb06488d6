"""What is at a path, before it is opened: opening a named pipe could block for ever."""

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from advdenoise.errors import BadInput

_CLOCK_SECONDS = 10.0  # by which a file server's clock may be ahead
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_PARTIAL = re.compile(r"\.(.+)\.\d+\.part")


def partial_path(path: Path) -> Path:
    """The temporary file beside `path` that this process writes and then renames to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def final_path(path: Path) -> Path:
    """The file that a temporary one is to become; any other path itself."""
    match = _PARTIAL.fullmatch(path.name)
    return path.with_name(match[1]) if match else path


def why_not_readable(path: Path) -> str | None:
    """Why a path cannot be read as a file, as the end of a sentence; None if it can.

    Links are followed. Nothing is opened, so that a pipe without a writer does not block.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except ValueError:
        return "is not a path"
    except OSError as error:
        if os.path.islink(path):
            return f"is a broken link ({error.strerror})"
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return "does not exist" if missing else f"cannot be read ({error.strerror})"
    if kind != stat.S_IFREG:
        return f"is {_KINDS.get(kind, 'not a regular file')}, not a file"
    return None if os.access(path, os.R_OK) else "cannot be read (Permission denied)"


def why_not_listable(folder: Path) -> str | None:
    """Like `why_not_readable`, of a folder whose entries are to be listed."""
    reason = why_not_readable(folder)
    if reason is None:
        return "is a file, not a folder"
    if os.path.isdir(folder):
        allowed = os.access(folder, os.R_OK | os.X_OK)
        return None if allowed else "cannot be read (Permission denied)"
    return reason.replace("not a file", "not a folder")


def require_readable(folder: Path) -> None:
    """Raises BadInput if a folder exists and cannot be listed: it would look empty."""
    reason = why_not_listable(folder)
    if reason and reason.startswith("cannot be read"):
        raise BadInput(f"{folder}: {reason}; check its permissions")


def check_paths(paths: Iterable[str | Path]) -> None:
    """Raises BadInput if a folder, a pipe or a broken link is in the place of a file.

    Also if a file is in the place of one of the folders above it.
    """
    parents: set[Path] = set()
    for path in map(Path, paths):
        reason = why_not_readable(path)
        if reason and os.path.lexists(path) and not reason.startswith("cannot be read"):
            raise BadInput(f"{path}: {reason}; delete it and run the same command again")
        parents.update(path.parents)
    for folder in sorted(parents):
        if os.path.lexists(folder) and not folder.is_dir():
            raise BadInput(f"{folder}: is not a folder; delete it and run the same command again")


def check_times(paths: Iterable[str | Path]) -> None:
    """Raises BadInput if a file's modification time lies in the future, by a wrong clock.

    Snakemake would remove the job's output at its end, because it is older than its input.
    """
    latest = time.time() + _CLOCK_SECONDS
    for path in map(Path, paths):
        with contextlib.suppress(OSError):
            if (modified := path.stat().st_mtime) > latest:
                when = datetime.fromtimestamp(modified).isoformat(" ", "seconds")
                raise BadInput(
                    f"{path}: its modification time, {when}, lies in the future; set the clock, "
                    "and run `find results -newermt now -exec touch {} +`"
                )


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its contents, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
