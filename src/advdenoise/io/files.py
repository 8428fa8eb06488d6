"""Files that are whole or absent, and what is said of those that cannot be read.

Every writer works on a temporary file beside the target and renames it at the end, so that a
killed job leaves nothing at the target's path. Every reader checks what it reads: truncation,
flipped bits and files of another kind end in `DamagedFile`, a missing file in `BadInput`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from advdenoise.errors import BadInput, DamagedFile, remedy, short


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` which becomes `path` when the block ends well.

    The file is flushed to the disk before it is renamed; when the block raises it is removed.
    What an earlier, killed writer of the same path left behind is removed too.

    Raises OSError with the file's name where the operating system does not let it be written, also
    where a library raises something else.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        yield part
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)
    except BaseException as error:
        from advdenoise.ops.system import system_error

        with suppress(OSError):
            part.unlink(missing_ok=True)  # first: it is not to count as what fills the disk
        if named := system_error(error, path):
            raise named from error
        raise


def _sweep(path: Path) -> None:
    leftover = re.compile(rf"\.{re.escape(path.name)}\.\d+\.part")
    for neighbour in path.parent.iterdir():
        if leftover.fullmatch(neighbour.name):
            neighbour.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def damage_error(path: str | Path, reason: object) -> BadInput:
    """The error that names the damaged file, why it is taken as such, and what to rerun.

    Where the operating system did not let it be read, nothing says that it is damaged: Refusal.
    """
    from advdenoise.ops.system import Refusal, refusal_message

    if isinstance(reason, Exception) and (refused := refusal_message(reason, Path(path))):
        return Refusal(refused)
    return DamagedFile(f"{path} is damaged ({short(reason).rstrip('.')}); {remedy(path)}.")


def require_file(path: str | Path) -> None:
    """Raises BadInput where there is no file at `path`, or one that cannot be read."""
    from advdenoise.ops.files import why_not_readable
    from advdenoise.ops.system import Refusal

    reason = why_not_readable(Path(path))
    if reason == "does not exist":
        raise BadInput(f"{path} does not exist; run `snakemake --cores all {path}`.")
    if reason and reason.startswith("cannot be read"):
        raise Refusal(f"{path} {reason}; check its permissions.")
    if reason:
        raise BadInput(f"{path} {reason}; {remedy(path)}.")
