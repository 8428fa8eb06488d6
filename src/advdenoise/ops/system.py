"""Errors of the operating system, each as one sentence with its remedy, and checks before a run."""

import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from advdenoise.errors import BadInput
from advdenoise.ops.files import final_path

_MIN_FREE_BYTES = 1 << 20  # for what Snakemake and a job write beside results
_MIN_OPEN_FILES = 64
_FULL = "its file system is full"
_AGAIN = "run the same command again, what is done is kept"

_READ_ONLY = "make it writable, or work in a copy of this folder"
_DENIED = "give your user access to it and its folder"
# By error number: what is wrong, with the fields of `_fields`, and the remedy.
_REASONS = {
    errno.ENOSPC: ("no space left on its file system, {free}", "free some space"),
    errno.EDQUOT: ("the disk quota is exceeded, {free}", "free some space"),
    errno.EFBIG: ("the file is too large for {largest}", "raise it with `ulimit -f`"),
    errno.EMFILE: ("too many open files, {files} are allowed", "raise it with `ulimit -n NUMBER`"),
    errno.ENFILE: ("too many open files on this computer", "close other programs"),
    errno.EIO: ("the disk fails (input/output error)", "check it"),
    errno.ENXIO: ("there is no such device", "check it"),
    errno.ESTALE: ("the network file system lost it (stale file handle)", "check its mount"),
    errno.ETIMEDOUT: ("its file system does not respond", "check its mount"),
    errno.EROFS: ("its file system is read-only", "mount it writable"),
    errno.EACCES: ("permission denied", _DENIED),
    errno.EPERM: ("operation not permitted", _DENIED),
    errno.ENAMETOOLONG: ("the name is too long for its file system", "choose a shorter one"),
}
# h5py, Arrow and torch write the number into their message.
_NUMBER = re.compile(r"errno = (\d+)|\[[Ee]rrno (\d+)\]")
_NAME = re.compile(r"name = '([^']+)'")
_OUT_OF_MEMORY = re.compile(
    r"not enough memory|(?:cannot|can't) allocate memory|unable to allocate|bad_alloc"
    r"|failed to map segment|can't start new thread",
    re.IGNORECASE,
)


class Refusal(BadInput):
    """An operation that the operating system refuses."""


def refusal_message(error: BaseException, path: Path | None = None) -> str | None:
    """One sentence for an error of the operating system; None for other errors.

    `path` is the file in use, for an error that names none.
    """
    cause = system_error(error, path)
    if cause is None or cause.errno is None:
        return None
    what, remedy = _REASONS[cause.errno]
    reason = what.format(**_fields(Path(cause.filename or ".")))
    return f"{cause.filename or 'a file'}: {reason}; {remedy} and {_AGAIN}"


def system_error(error: BaseException, path: Path | None = None) -> OSError | None:
    """The operating system's error behind one that a library raised, with the file's name.

    `path` is the file in use, for an error that names none.
    """
    for cause in _causes(error):
        number = _number(cause)
        if number in _REASONS:
            name = _file_of(cause) or path
            return OSError(number, os.strerror(number), *([str(name)] if name else []))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that this process could not allocate memory."""
    return any(
        isinstance(cause, MemoryError)
        or _number(cause) == errno.ENOMEM
        or bool(_OUT_OF_MEMORY.search(str(cause)))
        for cause in _causes(error)
    )


def memory_remedy(rule: str) -> str:
    """How to give a rule more memory, as the end of a sentence."""
    return f"give it more with --set-resources {rule}:mem_mb=MEGABYTES"


def check_cache() -> None:
    """Raises Refusal if Snakemake cannot write its cache, where it would end in a traceback."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "snakemake"
    if reason := why_not_writable(cache):
        raise Refusal(
            f"{cache}: Snakemake keeps its cache here, but {reason}; choose another folder with "
            "`export XDG_CACHE_HOME=FOLDER`"
        )


def check_records(records: Path) -> None:
    """Raises Refusal if Snakemake cannot run here or write its records (`.snakemake`)."""
    if {"{", "}"} & set(str(Path.cwd())):
        raise Refusal(f"{Path.cwd()}: Snakemake reserves braces in paths; rename the folder")
    mask = os.umask(0)
    os.umask(mask)
    if mask & 0o700:
        raise Refusal(
            f"umask {mask:03o}: you could not read what a run writes; run `umask 022` first"
        )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < _MIN_OPEN_FILES:
        raise Refusal(
            f"ulimit -n {files}: a run opens up to {_MIN_OPEN_FILES} files at a time; run "
            "`ulimit -n 1024` first"
        )
    for variable in ("TMPDIR", "TEMP", "TMP"):  # Snakemake's scheduler uses all three
        folder = Path(os.environ.get(variable) or os.devnull)
        if folder.is_dir() and _is_full(folder):
            raise Refusal(
                f"{variable}: {folder} is full, {_free(folder)}; free some space or choose another "
                f"folder with `export {variable}=FOLDER`"
            )
    folders = [*records.glob("*/")] if os.access(records, os.R_OK) else []
    check_writable([records / "new", *(folder / "new" for folder in folders)])


def check_writable(paths: Iterable[Path]) -> None:
    """Raises Refusal if one of these files cannot be created in its folder.

    Snakemake ends in a traceback if it cannot create or remove a file.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        if reason := why_not_writable(folder):
            remedy = f"free some space and {_AGAIN}" if reason.startswith(_FULL) else _READ_ONLY
            raise Refusal(f"{folder}: files are to be written here, but {reason}; {remedy}")


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be created in a folder, which need not exist; None if one can."""
    folder = folder.absolute()
    existing = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), folder)
    name = "it" if existing == folder else f"{existing}"
    if not existing.is_dir():
        return f"{name} is not a folder"
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        return f"{name} is on a read-only file system"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{name} is not writable for you (owner: {_owner(existing)})"
    if _is_full(existing):
        return f"{_FULL}, {_free(existing)}"
    return None


def _is_full(folder: Path) -> bool:
    system = os.statvfs(folder)  # with totals of 0 where it does not report them
    no_bytes = system.f_blocks and system.f_bavail * system.f_frsize < _MIN_FREE_BYTES
    return bool(no_bytes or (system.f_files and not system.f_favail))


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from; torch's C++ code sets no cause."""
    while error is not None:
        yield error
        native = isinstance(error, RuntimeError) and not error.__suppress_context__
        error = error.__cause__ or (error.__context__ if native else None)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _NUMBER.search(str(error)) if isinstance(error, OSError | RuntimeError) else None
    return int(match[1] or match[2]) if match else None


def _file_of(error: BaseException) -> Path | None:
    """The file that an error names; for a temporary one the file that it was to become."""
    match = _NAME.search(str(error))
    name = getattr(error, "filename", None) or (match and match[1])
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    return final_path(Path(os.fsdecode(name)))


def _fields(path: Path) -> dict[str, str]:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    unlimited = limit == resource.RLIM_INFINITY
    largest = "its file system" if unlimited else f"the limit of {limit:,} bytes"
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"free": _free(path), "largest": largest, "files": f"{files}"}


def _free(path: Path) -> str:
    """The free space on the file system of a path that need not exist."""
    for existing in (path, *path.absolute().parents):
        try:
            system = os.statvfs(existing)
        except OSError:
            continue
        if system.f_files and not system.f_favail:
            return f"it holds {system.f_files:,} files and no more"
        return f"{system.f_bavail * system.f_frsize:,} bytes are free"
    return "its free space is unknown"
