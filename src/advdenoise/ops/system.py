"""What the operating system refuses a process, each told in one sentence with its remedy."""

import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from advdenoise.errors import BadInput

_LITTLE = 1 << 20  # bytes that Snakemake and a job need for their own notes
_FILES = 64
_FULL = "its file system is full"
AGAIN = "run the same command again, what is done is kept"

_ELSEWHERE = "make it writable, or work in a copy of this folder"
_DENIED = "give your user the right to it and its folder"
# By error number: what is wrong, and what helps. The fields are `_fields`'s.
_REASONS = {
    errno.ENOSPC: ("no space left on its file system, {free}", "free some space"),
    errno.EDQUOT: ("the disk quota is used up, {free}", "free some space"),
    errno.EFBIG: ("the file is too large for {largest}", "raise it with `ulimit -f`"),
    errno.EMFILE: ("too many open files, {files} are allowed", "raise it with `ulimit -n NUMBER`"),
    errno.ENFILE: ("too many open files on this computer", "end other programs"),
    errno.EIO: ("the disk fails (input/output error)", "check it"),
    errno.ENXIO: ("the device is not there", "check it"),
    errno.ESTALE: ("the network file system lost it (stale file handle)", "check its mount"),
    errno.ETIMEDOUT: ("its file system does not answer", "check its mount"),
    errno.EROFS: ("its file system is read-only", "mount it writable"),
    errno.EACCES: ("permission denied", _DENIED),
    errno.EPERM: ("operation not permitted", _DENIED),
    errno.ENAMETOOLONG: ("the name is too long for its file system", "choose a shorter one"),
}
# h5py, Arrow and torch put the number into a text.
_NUMBER = re.compile(r"errno = (\d+)|\[[Ee]rrno (\d+)\]")
_NAME = re.compile(r"name = '([^']+)'")
_SHORT = re.compile(
    r"not enough memory|(?:cannot|can't) allocate memory|unable to allocate|bad_alloc"
    r"|failed to map segment|can't start new thread",
    re.IGNORECASE,
)
PART = re.compile(r"\.(.+)\.\d+\.part")  # a file that a job is writing


class Refusal(BadInput):
    """What the operating system refuses: nobody's mistake, and told like one."""


def refusal_message(error: BaseException, path: Path | None = None) -> str | None:
    """One sentence for an error that is the operating system's; None for others.

    `path` is the file that was worked on, told where the error names none.
    """
    cause = system_error(error, path)
    if cause is None:
        return None
    what, remedy = _REASONS[cause.errno]
    reason = what.format(**_fields(Path(cause.filename or ".")))
    return f"{cause.filename or 'a file'}: {reason}; {remedy} and {AGAIN}"


def system_error(error: BaseException, path: Path | None = None) -> OSError | None:
    """The operating system's error behind one that a library raised, with the file's name.

    `path` is the file that was worked on, named where the error names none.
    """
    for cause in _causes(error):
        number = _number(cause)
        if number in _REASONS:
            name = _named(cause) or path
            return OSError(number, os.strerror(number), *([str(name)] if name else []))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that this process was given no more memory."""
    return any(
        isinstance(cause, MemoryError)
        or _number(cause) == errno.ENOMEM
        or bool(_SHORT.search(str(cause)))
        for cause in _causes(error)
    )


def memory_remedy(rule: str) -> str:
    """The remedy where memory is short, to end a sentence with."""
    return f"give it more with --set-resources {rule}:mem_mb=MEGABYTES"


def check_cache() -> None:
    """Raises Refusal where Snakemake could not keep its cache: it ends in a traceback then."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "snakemake"
    if reason := why_not_writable(cache):
        raise Refusal(
            f"{cache}: Snakemake keeps its cache there, and {reason}; name another folder with "
            "`export XDG_CACHE_HOME=FOLDER`"
        )


def check_records(records: Path) -> None:
    """Raises Refusal where Snakemake could not work, or keep its records (`.snakemake`)."""
    if {"{", "}"} & set(str(Path.cwd())):
        raise Refusal(f"{Path.cwd()}: braces in a path are Snakemake's own; rename the folder")
    mask = os.umask(0)
    os.umask(mask)
    if mask & 0o700:
        raise Refusal(
            f"umask {mask:03o}: you could not read yourself what a run writes; `umask 022` first"
        )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < _FILES:
        raise Refusal(
            f"ulimit -n {files}: a run opens up to {_FILES} files at a time; `ulimit -n 1024` first"
        )
    for variable in ("TMPDIR", "TEMP", "TMP"):  # Snakemake's scheduler looks at all three
        folder = Path(os.environ.get(variable) or os.devnull)
        if folder.is_dir() and _is_full(folder):
            raise Refusal(
                f"{variable}: {folder} is full, {_free(folder)}; free some space or name another "
                f"folder with `export {variable}=FOLDER`"
            )
    folders = [*records.glob("*/")] if os.access(records, os.R_OK) else []
    check_writable([records / "new", *(folder / "new" for folder in folders)])


def check_writable(paths: Iterable[Path]) -> None:
    """Raises Refusal where one of these files could not be made in its folder.

    Snakemake ends in a traceback where it cannot remove or make a file.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        if reason := why_not_writable(folder):
            remedy = f"free some space and {AGAIN}" if reason.startswith(_FULL) else _ELSEWHERE
            raise Refusal(f"{folder}: files are to be written there, and {reason}; {remedy}")


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be made in a folder, be it there or not; None where one can."""
    folder = folder.absolute()
    place = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), folder)
    what = "it" if place == folder else f"{place}"
    if not place.is_dir():
        return f"{what} is no folder"
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{what} lies on a read-only file system"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{what} is not writable for you ({_owner(place)}'s)"
    if _is_full(place):
        return f"{_FULL}, {_free(place)}"
    return None


def _is_full(folder: Path) -> bool:
    left = os.statvfs(folder)
    no_bytes = left.f_blocks and left.f_bavail * left.f_frsize < _LITTLE
    return bool(no_bytes or (left.f_files and not left.f_favail))  # 0 in all: it does not say


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from; torch's code in C++ names nothing as its cause."""
    while error is not None:
        yield error
        native = isinstance(error, RuntimeError) and not error.__suppress_context__
        error = error.__cause__ or (error.__context__ if native else None)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _NUMBER.search(str(error)) if isinstance(error, OSError | RuntimeError) else None
    return int(match[1] or match[2]) if match else None


def _named(error: BaseException) -> Path | None:
    """The file that an error names; for a temporary one that which it was to become."""
    match = _NAME.search(str(error))
    name = getattr(error, "filename", None) or (match and match[1])
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(name))
    part = PART.fullmatch(path.name)
    return path.with_name(part[1]) if part else path


def _fields(path: Path) -> dict[str, str]:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    unlimited = limit == resource.RLIM_INFINITY
    largest = "its file system" if unlimited else f"the limit of {limit:,} bytes"
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"free": _free(path), "largest": largest, "files": f"{files}"}


def _free(path: Path) -> str:
    """What is left on the file system of a path that need not be there."""
    for place in (path, *path.absolute().parents):
        try:
            left = os.statvfs(place)
        except OSError:
            continue
        if left.f_files and not left.f_favail:
            return f"no file more of {left.f_files:,} fits"
        return f"{left.f_bavail * left.f_frsize:,} bytes are free"
    return "nothing is known of it"
