"""Tables with checksums in Parquet files."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advdenoise.io.digests import sha256
from advdenoise.io.files import atomic_write, damage_error, require_file

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_PIECE_BYTES = 8 << 20  # of a table that is read in pieces


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
    metadata = {"contents": contents, "sha256": sha256(contents)}
    with atomic_write(path) as part:
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
    with open_parquet(path) as (file, _):
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
    with open_parquet(path) as (file, contents):
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
                raise damage_error(path, f"column {name} does not match its checksum")
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
def open_parquet(path: str | Path) -> Iterator[tuple[Any, dict]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            contents = metadata.get(b"contents", b"")
            if metadata.get(b"sha256", b"").decode() != sha256(contents):
                raise damage_error(path, "its metadata do not match their checksum")
            contents = json.loads(contents)
            names_and_types = [[field.name, str(field.type)] for field in file.schema_arrow]
            if names_and_types != [column[:2] for column in contents["columns"]]:
                raise damage_error(path, "its columns do not match their checksum")
            yield file, contents
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise damage_error(path, error) from error


def _check_columns(
    path: str | Path, found: "pa.Schema", schema: "pa.Schema | None", wanted: list[str]
) -> None:
    for field in schema or []:
        if field.name not in found.names:
            raise damage_error(path, f"it has no column {field.name}")
        kind = found.field(field.name).type
        if kind != field.type:
            raise damage_error(path, f"column {field.name} is {kind}, not {field.type}")
    for name in wanted:
        if name not in found.names:
            raise damage_error(path, f"it has no column {name}")


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
        return sha256("".join(stream.hexdigest() for stream in self._streams))


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
