"""Arrays with checksums in HDF5 files."""

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

# HDF5's locks fail on many network file systems, and here a file is finished before it is read.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

_CHUNK_BYTES = 2 << 20  # a chunk's rows are the largest power of two within it
_CHUNK_CACHE = 16 << 20  # a chunk that is written in several slices is compressed once
# The format of HDF5 1.10: the first whose metadata carry checksums, and readable ever since.
_FORMAT = ("v110", "v110")
_LENGTH_BYTES = 8  # of the number that ends an HDF5 file of ours


@contextmanager
def create_hdf5(
    path: str | Path, provenance: dict, kind: str | None = None
) -> Iterator["h5py.File"]:
    """Yields a new HDF5 file, open for writing, which stands at `path` when the block ends well.

    `kind` is a word for what the file holds ("images", ...), which `open_hdf5` can ask for.
    Arrays belong in through `add_array`, small values and JSON texts into attributes; both are
    covered by checksums.
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
            file.flush()  # says why where it fails, which closing does not
        except BaseException:
            with suppress(Exception):
                file.close()
            raise
        file.close()
        _seal(part, chunks)


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
    """Adds an array with checksums, from `data` or, to be filled by slices, of `shape`, `dtype`.

    Numbers only. A chunk holds `rows` rows of axis 0, by default 1 to 2 MB (one row where a row
    is longer, the whole array where that is smaller). `codec` is "blosc" (zstd, level 1,
    bitshuffle; the reader needs hdf5plugin) or "gzip" (level 4, shuffle; any HDF5 reads it).
    """
    import numpy as np

    if data is not None:
        data = np.asarray(data, dtype=dtype)
        shape, dtype = data.shape, data.dtype
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf" or not shape:
        raise TypeError(f"{name}: an array of numbers is needed, not {dtype} of shape {shape}")
    if 0 in shape:  # no bytes, hence neither chunks nor checksums
        return group.create_dataset(name, shape, dtype)
    row_bytes = dtype.itemsize * math.prod(shape[1:])
    rows = rows or 1 << max(_CHUNK_BYTES // row_bytes, 1).bit_length() - 1
    added = group.create_dataset(
        name,
        shape,
        dtype,
        data=data,
        chunks=(min(rows, shape[0]), *shape[1:]),
        fletcher32=True,
        **_filters(codec),
    )
    if data is not None:
        group.file.flush()  # while a failure can be raised: closing the array would only print it
    return added


def _filters(codec: str) -> dict:
    if codec == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    if codec == "blosc":
        import hdf5plugin

        return dict(hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE))
    raise ValueError(f"unknown codec {codec!r}: blosc or gzip")


@contextmanager
def open_hdf5(path: str | Path, kind: str | None = None) -> Iterator["h5py.File"]:
    """Yields an HDF5 file of `create_hdf5`, open for reading; `kind` is what it must hold.

    Raises BadInput where the file is missing, and DamagedFile where it cannot be opened, is of
    another kind, or where reading from it inside the block fails (a missing dataset included).
    """
    import h5py
    import hdf5plugin  # noqa: F401, registers the codec

    require_file(path)
    _check_seal(path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    except (OSError, RuntimeError, ValueError) as error:
        raise damage_error(path, error) from error
    with file:
        found = file.attrs.get("kind", "something else")
        if kind not in (None, found):
            raise damage_error(path, f"it holds {found}, not {kind}")
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if _raised_by(error, file):
                raise damage_error(path, error) from error
            raise


def _chunks(file: "h5py.File") -> list[tuple[int, int]]:
    """Offsets and sizes in bytes of all chunks, which `fletcher32` protects."""
    import h5py

    chunks = []

    def add(_, item):
        if isinstance(item, h5py.Dataset) and item.chunks and item.fletcher32:
            item.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))

    file.visititems(add)
    return sorted(chunks)


def _seal(path: Path, chunks: list[tuple[int, int]]) -> None:
    """Appends a checksum of all bytes but the chunks' behind the end of an HDF5 file.

    HDF5 keeps texts in a heap without checksums, and a flipped bit there can make it wait for
    ever: so the bytes are checked before HDF5 sees them. It ignores what follows its own end.
    """
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        sha256 = _digest_between(file, size, chunks)
        seal = json.dumps({"chunks": chunks, "size": size, "sha256": sha256}).encode()
        file.seek(size)
        file.write(seal + hashlib.sha256(seal).digest() + len(seal).to_bytes(_LENGTH_BYTES))


def _check_seal(path: str | Path) -> None:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = hashlib.sha256().digest_size + _LENGTH_BYTES
        file.seek(max(0, size - tail))
        end = file.read()
        length = min(int.from_bytes(end[-_LENGTH_BYTES:]), size)
        file.seek(max(0, size - tail - length))
        seal = file.read(length)
        if hashlib.sha256(seal).digest() != end[:-_LENGTH_BYTES]:
            raise damage_error(path, "its end is missing or altered")
        seal = json.loads(seal)
        if _digest_between(file, seal["size"], seal["chunks"]) != seal["sha256"]:
            raise damage_error(path, "it does not match its checksum")


def _digest_between(file: BinaryIO, size: int, chunks: list[tuple[int, int]]) -> str:
    """SHA-256 of the first `size` bytes without the `chunks` (sorted offsets and sizes)."""
    digest = hashlib.sha256()
    place = 0
    for offset, length in (*chunks, (size, 0)):
        file.seek(place)
        digest.update(file.read(offset - place))
        place = offset + length
    return digest.hexdigest()


def _raised_by(error: BaseException, file: "h5py.File") -> bool:
    """Whether `error` comes out of h5py at work on `file`, not on another file or elsewhere."""
    from h5py import h5f

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("h5py."):
            identifier = getattr(frame.f_locals.get("self"), "_id", None)
            if identifier and h5f.get_name(identifier) == h5f.get_name(file.id):
                return True
    return False
