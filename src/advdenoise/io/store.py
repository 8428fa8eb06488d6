"""Files that are whole or absent, say how they were made, and notice when they are damaged.

Every writer works on a temporary file beside the target and renames it at the end, so that a
killed job leaves nothing at the target's path. Every reader checks what it reads: truncation,
flipped bits and files of another kind end in `DamagedFile`, a missing file in `BadInput`.
"""

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from advdenoise.errors import BadInput, DamagedFile, remedy, short

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import pyarrow as pa
    import torch

# HDF5's locks fail on many network file systems, and here a file is finished before it is read.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

_PACKAGES = (
    "h5py",
    "hdf5plugin",
    "numpy",
    "pyarrow",
    "safetensors",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "segmentation-models-pytorch",
    "snakemake",
    "timm",
    "torch",
    "torchvision",
    "xgboost",
)
_CHUNK_BYTES = 2 << 20  # a chunk's rows are the largest power of two within it
_PIECE_BYTES = 8 << 20  # of a table that is read in pieces
_CHUNK_CACHE = 16 << 20  # a chunk that is written in several slices is compressed once
# The format of HDF5 1.10: the first whose metadata carry checksums, and readable ever since.
_FORMAT = ("v110", "v110")
_LENGTH_BYTES = 8  # of the number that ends an HDF5 file of ours


# Atomic writing


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
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
        from advdenoise.ops.system import of_system

        with suppress(OSError):
            part.unlink(missing_ok=True)  # first: it is not to count as what fills the disk
        if named := of_system(error, path):
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
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


# Provenance


def provenance(settings: dict, started: float) -> dict:
    """What made a file: settings, code, libraries, machine and time, as plain JSON values.

    `started` is the job's `time.time()` at its beginning, `wall_seconds` the time since.
    `commit` and `dirty` describe the checkout of this code and are None outside git. `device`
    is the GPU's name where this process has used one, otherwise "cpu".
    """
    return {
        "settings": settings,
        **_checkout(),
        "versions": _versions(),
        "device": _device(),
        "wall_seconds": round(time.time() - started, 3),
        "host": platform.node(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _checkout() -> dict:
    folder = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--", "."]
    # A hook's GIT_DIR would point elsewhere; without the lock two jobs do not disturb each other.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    lines = answer.stdout.splitlines()
    commit = next((x.split()[-1] for x in lines if x.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return "cpu"
    return torch.cuda.get_device_name()


def read_provenance(path: str | Path) -> dict:
    """The provenance of a file written by this module (.h5, .parquet, .safetensors, .json).

    Raises BadInput where the file is missing or carries none, DamagedFile where it is damaged.
    """
    suffix = Path(path).suffix
    if suffix == ".h5":
        with open_hdf5(path) as file:
            return json.loads(file.attrs["provenance"])
    if suffix == ".parquet":
        with _open_parquet(path) as (_, contents):
            return contents["provenance"]
    if suffix == ".safetensors":
        return _weights_header(path, _verified_weights(path))
    if suffix == ".json":
        return _json_contents(path)["provenance"]
    raise BadInput(f"{path} carries no provenance; give a .h5, .parquet, .safetensors or .json.")


# Reading in general


def damaged(path: str | Path, reason: object) -> BadInput:
    """The error that names the damaged file, why it is taken as such, and what to rerun.

    Where the operating system did not let it be read, nothing says that it is damaged: Refused.
    """
    from advdenoise.ops.system import Refused, refusal

    if isinstance(reason, Exception) and (refused := refusal(reason, Path(path))):
        return Refused(refused)
    return DamagedFile(f"{path} is damaged ({short(reason).rstrip('.')}); {remedy(path)}.")


def require(path: str | Path) -> None:
    """Raises BadInput where there is no file at `path`, or one that cannot be read."""
    from advdenoise.ops.files import why_no_file
    from advdenoise.ops.system import Refused

    reason = why_no_file(Path(path))
    if reason == "does not exist":
        raise BadInput(f"{path} does not exist; run `snakemake --cores all {path}`.")
    if reason and reason.startswith("cannot be read"):
        raise Refused(f"{path} {reason}; check its rights.")
    if reason:
        raise BadInput(f"{path} {reason}; {remedy(path)}.")


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sha256(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


# HDF5


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

    with replacing(path) as part:
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

    require(path)
    _check_seal(path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    except (OSError, RuntimeError, ValueError) as error:
        raise damaged(path, error) from error
    with file:
        found = file.attrs.get("kind", "something else")
        if kind not in (None, found):
            raise damaged(path, f"it holds {found}, not {kind}")
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if _raised_by(error, file):
                raise damaged(path, error) from error
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
            raise damaged(path, "its end is missing or altered")
        seal = json.loads(seal)
        if _digest_between(file, seal["size"], seal["chunks"]) != seal["sha256"]:
            raise damaged(path, "it does not match its checksum")


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


# Parquet


def write_table(path: str | Path, table: "pa.Table", provenance: dict) -> None:
    """Writes a table of numbers, booleans, texts and lists of them as Parquet, atomically.

    Besides Parquet's page checksums the file carries a SHA-256 of every column and one over
    these, names, types and provenance: page headers and footer have no checksum of their own.
    """
    import pyarrow.parquet as pq

    columns = [
        [field.name, str(field.type), _column_digest(column)]
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    contents = json.dumps({"provenance": provenance, "columns": columns})
    metadata = {"contents": contents, "sha256": _sha256(contents)}
    with replacing(path) as part:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            part,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=_floating_leaves(table.schema),
            use_compliant_nested_type=False,  # gives lists back under the type they had
            write_page_checksum=True,
        )


def column_names(path: str | Path) -> list[str]:
    """The names of a table's columns; BadInput or DamagedFile as `read_table`."""
    with _open_parquet(path) as (file, _):
        return file.schema_arrow.names


def read_table(
    path: str | Path,
    schema: "pa.Schema | None" = None,
    columns: Iterable[str] | None = None,
    keep: "Callable[[pa.Table], pa.ChunkedArray] | None" = None,
) -> "pa.Table":
    """Reads `columns` (default: all) of a table, checking every one of them.

    `keep` says of some rows which are wanted (booleans, from the columns read). The file is then
    read and checked in pieces, so that memory holds little more than the wanted rows. The columns
    of `schema` must be in the file by name and type. Raises BadInput where the file is missing,
    DamagedFile where it is damaged, of another schema or lacks a column.
    """
    wanted = None if columns is None else list(columns)
    with _open_parquet(path) as (file, contents):
        _check_columns(path, file.schema_arrow, schema, wanted or [])
        digests = {name: digest for name, _, digest in contents["columns"]}
        hashes = {name: _ColumnHash() for name in wanted or file.schema_arrow.names}
        kept = []
        for piece in _pieces(file, list(hashes), whole=keep is None):
            for name, column in zip(piece.column_names, piece.columns, strict=True):
                hashes[name].update(column)
            kept.append(piece if keep is None else piece.filter(keep(piece)))
        for name, found in hashes.items():
            if found.hexdigest() != digests.get(name):
                raise damaged(path, f"column {name} does not match its checksum")
    import pyarrow as pa

    return pa.concat_tables(kept).select(list(hashes)).replace_schema_metadata(None)


def _pieces(file: Any, columns: list[str], whole: bool) -> Iterator["pa.Table"]:
    """The table at once, or some rows at a time; at least one piece, empty where there are none."""
    import pyarrow as pa

    rows, groups = file.metadata.num_rows, range(file.metadata.num_row_groups)
    if whole or rows == 0:
        yield file.read(columns=columns)
        return
    size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    for batch in file.iter_batches(max(1, _PIECE_BYTES * rows // size), columns=columns):
        yield pa.Table.from_batches([batch])


@contextmanager
def _open_parquet(path: str | Path) -> Iterator[tuple[Any, dict]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            contents = metadata.get(b"contents", b"")
            if metadata.get(b"sha256", b"").decode() != _sha256(contents):
                raise damaged(path, "its metadata do not match their checksum")
            contents = json.loads(contents)
            names_and_types = [[field.name, str(field.type)] for field in file.schema_arrow]
            if names_and_types != [column[:2] for column in contents["columns"]]:
                raise damaged(path, "its columns do not match their checksum")
            yield file, contents
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise damaged(path, error) from error


def _check_columns(
    path: str | Path, found: "pa.Schema", schema: "pa.Schema | None", wanted: list[str]
) -> None:
    for field in schema or []:
        if field.name not in found.names:
            raise damaged(path, f"it has no column {field.name}")
        kind = found.field(field.name).type
        if kind != field.type:
            raise damaged(path, f"column {field.name} is {kind}, not {field.type}")
    for name in wanted:
        if name not in found.names:
            raise damaged(path, f"it has no column {name}")


def _floating_leaves(schema: "pa.Schema") -> list[str]:
    """Parquet's paths of the columns that hold floating-point numbers."""
    import pyarrow as pa

    leaves = []
    for field in schema:
        path, kind = field.name, field.type
        while pa.types.is_nested(kind):
            path, kind = f"{path}.list.{kind.value_field.name}", kind.value_type
        if pa.types.is_floating(kind):
            leaves.append(path)
    return leaves


def _column_digest(column: "pa.ChunkedArray") -> str:
    found = _ColumnHash()
    found.update(column)
    return found.hexdigest()


class _ColumnHash:
    """SHA-256 of a column's values, nulls apart, however it is cut into chunks."""

    def __init__(self):
        self._streams = [hashlib.sha256() for _ in range(3)]

    def update(self, column: "pa.ChunkedArray") -> None:
        for chunk in column.chunks:
            _hash_array(chunk, *self._streams)

    def hexdigest(self) -> str:
        return _sha256("".join(stream.hexdigest() for stream in self._streams))


def _hash_array(array: "pa.Array", present: Any, lengths: Any, values: Any) -> None:
    """Feeds which entries are there, how long texts and lists are, and their values."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    present.update(_known(array))
    if pa.types.is_nested(kind):
        lengths.update(_filled(pc.list_value_length(array)))
        _hash_array(array.flatten(), present, lengths, values)
    elif pa.types.is_string(kind):
        if array.null_count:
            array = array.fill_null("")
        lengths.update(_filled(pc.binary_length(array)))
        if len(array):
            _, offsets, data = array.buffers()
            ends = np.frombuffer(offsets, np.int32)[array.offset :][: len(array) + 1]
            values.update(memoryview(data)[ends[0] : ends[-1]] if data else b"")
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values.update(_filled(array))
    else:
        raise TypeError(f"a column of type {kind} cannot be stored")


# From buffers, for `to_numpy` and `fill_null` import pandas, to ask whether they were given some of
# its objects: half a second of a job that takes three.


def _known(array: "pa.Array") -> "np.ndarray":
    """Which entries are there."""
    import numpy as np

    return _bits(array, 0) if array.null_count else np.ones(len(array), bool)


def _filled(array: "pa.Array") -> "np.ndarray":
    """The numbers of an array, or its booleans; 0 in the place of what is not there."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        found = _bits(array, 1)
    else:
        stored = array.buffers()[1] or b""
        found = np.frombuffer(stored, array.type.to_pandas_dtype())[array.offset :][: len(array)]
    return np.where(_known(array), found, found.dtype.type(0)) if array.null_count else found


def _bits(array: "pa.Array", buffer: int) -> "np.ndarray":
    import numpy as np

    packed = np.frombuffer(array.buffers()[buffer] or b"", np.uint8)
    return np.unpackbits(packed, bitorder="little")[array.offset :][: len(array)].astype(bool)


# Weights


def write_weights(path: str | Path, tensors: dict[str, "torch.Tensor"], provenance: dict) -> None:
    """Writes tensors as safetensors, with `{path}.sha256` (as of `sha256sum`) beside them."""
    import safetensors.torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain, {"provenance": json.dumps(provenance)})
    with replacing(path) as part:
        part.write_bytes(data)
        # First the checksum: weights without one would look damaged to their reader.
        write_text(_sidecar(path), f"{_sha256(data)}  {Path(path).name}\n")


def read_weights(path: str | Path) -> tuple[dict[str, "torch.Tensor"], dict]:
    """Tensors by name, on the CPU, and provenance.

    Raises BadInput where the weights are missing, DamagedFile where they or their checksum are
    damaged, or where the checksum is missing.
    """
    import safetensors.torch

    data = _verified_weights(path)
    provenance = _weights_header(path, data)
    return safetensors.torch.load(data), provenance


def _sidecar(path: str | Path) -> Path:
    return Path(f"{path}.sha256")


def _verified_weights(path: str | Path) -> bytes:
    require(path)
    data = Path(path).read_bytes()
    try:
        expected = _sidecar(path).read_bytes().split()[:1]
    except FileNotFoundError:
        raise damaged(path, f"{_sidecar(path)} is missing") from None
    if expected != [_sha256(data).encode()]:
        raise damaged(path, f"it does not match {_sidecar(path)}")
    return data


def _weights_header(path: str | Path, data: bytes) -> dict:
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return json.loads(header["__metadata__"]["provenance"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "it is no safetensors file of this workflow") from error


# JSON


def write_json(path: str | Path, value: dict, provenance: dict) -> None:
    """Writes {"value": value, "provenance": provenance, "sha256": of both}, atomically."""
    # Through JSON first: what a reader will hash has texts for keys and lists for tuples.
    contents = json.loads(json.dumps({"value": value, "provenance": provenance}))
    contents["sha256"] = _sha256(_canonical(contents))
    write_text(path, json.dumps(contents, indent=2) + "\n")


def read_json(path: str | Path) -> dict:
    """The `value` that `write_json` was given, checked.

    Raises BadInput where the file is missing, DamagedFile where it is damaged.
    """
    return _json_contents(path)["value"]


def _json_contents(path: str | Path) -> dict:
    require(path)
    try:
        contents = json.loads(Path(path).read_bytes())
        expected = contents.pop("sha256")
        intact = expected == _sha256(_canonical(contents))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    if not intact or set(contents) != {"value", "provenance"}:
        raise damaged(path, "its contents do not match their checksum")
    return contents
