"""Arrays in HDF5 files, with checksums of all bytes.

Chunks of arrays carry HDF5's own checksums, `fletcher32`. HDF5 keeps texts without any, and a
flipped bit there can make it hang: so a SHA-256 of all other bytes is appended to the file, which
HDF5 ignores, and checked before HDF5 opens it.
"""

import hashlib
import json
import math
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from advdenoise.io.files import atomic_write, damage_error, require_file

if TYPE_CHECKING:
    import h5py

# HDF5's locks fail on many network file systems, and here a file is complete before it is read.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

_CHUNK_BYTES = 2 << 20  # bound of a chunk, whose number of rows is a power of two
_CHUNK_CACHE = 16 << 20  # bytes: a chunk written in several slices is compressed once
# The format of HDF5 1.10, the first with checksums of metadata.
_FORMAT = ("v110", "v110")
_LENGTH_BYTES = 8  # of the appended record's length, at the end of the file


@contextmanager
def create_hdf5(
    path: str | Path, provenance: dict, kind: str | None = None
) -> Iterator["h5py.File"]:
    """Yields a new HDF5 file, open for writing, that is at `path` if the block succeeds.

    `kind` names the contents ("images", ...) for `open_hdf5` to check. Arrays are added with
    `add_array`; small values and JSON texts are attributes.
    """
    import h5py

    with atomic_write(path) as part:
        file = h5py.File(part, "w", libver=_FORMAT, rdcc_nbytes=_CHUNK_CACHE)
        try:
            file.attrs["provenance"] = json.dumps(provenance)
            if kind is not None:
                file.attrs["kind"] = kind
            yield file
            chunks = _chunks(file)
            file.flush()  # raises the reason of a failure, which closing does not
        except BaseException:
            with suppress(Exception):
                file.close()
            raise
        file.close()
        _append_checksum(part, chunks)


def add_array(
    group: "h5py.Group",
    name: str,
    data: Any = None,
    *,
    shape: tuple[int, ...] | None = None,
    dtype: Any = None,
    rows: int | None = None,
    codec: str = "blosc",
) -> "h5py.Dataset":
    """Add an array of numbers: `data`, or one of `shape` and `dtype` to be filled by slices.

    A chunk holds `rows` rows of axis 0, by default 1 to 2 MB (one row if a row is larger, the whole
    array if that is smaller). `codec` is "blosc" (zstd, level 1, bitshuffle; readers need
    hdf5plugin) or "gzip" (level 4, shuffle; readable by any HDF5).

    Raises:
        TypeError: the array does not hold numbers.
    """
    import numpy as np

    if data is not None:
        data = np.asarray(data, dtype=dtype)
        shape, dtype = data.shape, data.dtype
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf" or not shape:
        raise TypeError(f"{name}: must be an array of numbers, got {dtype} of shape {shape}")
    if 0 in shape:  # no bytes, so neither chunks nor checksums
        return group.create_dataset(name, shape, dtype)
    row_bytes = dtype.itemsize * math.prod(shape[1:])
    rows = rows or 1 << max(_CHUNK_BYTES // row_bytes, 1).bit_length() - 1
    dataset = group.create_dataset(
        name,
        shape,
        dtype,
        data=data,
        chunks=(min(rows, shape[0]), *shape[1:]),
        fletcher32=True,
        **_filters(codec),
    )
    if data is not None:
        group.file.flush()  # raises a failure, which closing the array would only print
    return dataset


def _filters(codec: str) -> dict:
    if codec == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    if codec == "blosc":
        import hdf5plugin

        return dict(hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE))
    raise ValueError(f"codec: must be blosc or gzip, got {codec!r}")


@contextmanager
def open_hdf5(path: str | Path, kind: str | None = None) -> Iterator["h5py.File"]:
    """Yields a file of `create_hdf5`, open for reading, after checking its `kind`.

    Raises:
        BadInput: the file is missing.
        DamagedFile: it cannot be opened, is of another kind, or reading from it inside the block
            fails, also because a dataset is missing.
    """
    import h5py
    import hdf5plugin  # noqa: F401, registers the codec

    require_file(path)
    _verify_checksum(path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    except (OSError, RuntimeError, ValueError) as error:
        raise damage_error(path, error) from error
    with file:
        own = file.attrs.get("kind", "something else")
        if kind not in (None, own):
            raise damage_error(path, f"it holds {own}, not {kind}")
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if _raised_by(error, file):
                raise damage_error(path, error) from error
            raise


def _chunks(file: "h5py.File") -> list[tuple[int, int]]:
    """The offset and size in bytes of every chunk with a checksum."""
    import h5py

    chunks = []

    def add(_, item):
        if isinstance(item, h5py.Dataset) and item.chunks and item.fletcher32:
            item.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))

    file.visititems(add)
    return sorted(chunks)


def _append_checksum(path: Path, chunks: list[tuple[int, int]]) -> None:
    """Append a record with the SHA-256 of all bytes outside chunks, its own SHA-256 and length."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        sha256 = _sha256_outside(chunks, file, size)
        record = json.dumps({"chunks": chunks, "size": size, "sha256": sha256}).encode()
        file.seek(size)
        file.write(record + hashlib.sha256(record).digest() + len(record).to_bytes(_LENGTH_BYTES))


def _verify_checksum(path: str | Path) -> None:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = hashlib.sha256().digest_size + _LENGTH_BYTES
        file.seek(max(0, size - tail))
        end = file.read()
        length = min(int.from_bytes(end[-_LENGTH_BYTES:]), size)
        file.seek(max(0, size - tail - length))
        record = file.read(length)
        if hashlib.sha256(record).digest() != end[:-_LENGTH_BYTES]:
            raise damage_error(path, "its end is missing or altered")
        record = json.loads(record)
        if _sha256_outside(record["chunks"], file, record["size"]) != record["sha256"]:
            raise damage_error(path, "it does not match its checksum")


def _sha256_outside(chunks: list[tuple[int, int]], file: BinaryIO, size: int) -> str:
    """SHA-256 of the first `size` bytes without the `chunks`, sorted offsets and sizes."""
    digest = hashlib.sha256()
    start = 0
    for offset, length in (*chunks, (size, 0)):
        file.seek(start)
        digest.update(file.read(offset - start))
        start = offset + length
    return digest.hexdigest()


def _raised_by(error: BaseException, file: "h5py.File") -> bool:
    """Whether h5py raised `error` for `file`, and not for another file."""
    from h5py import h5f

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("h5py."):
            identifier = getattr(frame.f_locals.get("self"), "_id", None)
            if identifier and h5f.get_name(identifier) == h5f.get_name(file.id):
                return True
    return False
