"""Files that are complete or absent, and the errors of those that cannot be read.

Every writer writes a temporary file beside the target and renames it at the end, so that a killed
job leaves nothing at the target's path. Every reader checks what it reads: truncation, flipped bits
and files of another kind raise `DamagedFile`, a missing file raises `BadInput`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from advdenoise.errors import BadInput, DamagedFile, remedy, short
from advdenoise.ops.files import final_path, partial_path, why_not_readable
from advdenoise.ops.system import Refusal, refusal_message, system_error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that is renamed to `path` if the block succeeds.

    The file is flushed to disk before it is renamed, and removed if the block raises. Temporary
    files that killed writers of the same path left are removed as well.

    Raises:
        OSError: the operating system refuses to write the file, whatever error a library raised;
            it carries the file's name.
    """
    path = Path(path)
    part = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(".*.part"):
            if final_path(other) == path:
                other.unlink(missing_ok=True)
        yield part
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)  # before the free space is measured for the message
        if named := system_error(error, path):
            raise named from error
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def damage_error(path: str | Path, reason: object) -> BadInput:
    """The error for a damaged file: its name, the reason, and what to rerun.

    A `Refusal` if the reason is that the operating system refused to read the file.
    """
    if isinstance(reason, Exception) and (message := refusal_message(reason, Path(path))):
        return Refusal(message)
    return DamagedFile(f"{path} is damaged ({short(reason).rstrip('.')}); {remedy(path)}.")


def require_file(path: str | Path) -> None:
    """Raises BadInput if `path` is not a file that can be read."""
    reason = why_not_readable(Path(path))
    if reason == "does not exist":
        raise BadInput(f"{path} does not exist; run `snakemake --cores all {path}`.")
    if reason and reason.startswith("cannot be read"):
        raise Refusal(f"{path} {reason}; check its permissions.")
    if reason:
        raise BadInput(f"{path} {reason}; {remedy(path)}.")
