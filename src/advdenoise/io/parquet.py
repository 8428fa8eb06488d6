"""Tables in Parquet files, with checksums of columns, names, types and provenance.

Parquet's own checksums cover pages but neither their headers nor the footer: so the metadata hold a
SHA-256 of each column and one of themselves.
"""

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

_BATCH_BYTES = 8 << 20  # of rows that are read and filtered at once


def write_table(path: str | Path, table: "pa.Table", provenance: dict) -> None:
    """Write a table of numbers, booleans, texts and lists of them, atomically."""
    import pyarrow.parquet as pq

    columns = [
        [field.name, str(field.type), _ColumnHash(column).hexdigest()]
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
            use_byte_stream_split=_float_paths(table.schema),
            use_compliant_nested_type=False,  # so that lists keep their type
            write_page_checksum=True,
        )


def column_names(path: str | Path) -> list[str]:
    """The names of a table's columns; raises as `read_table`."""
    with open_parquet(path) as (file, _):
        return file.schema_arrow.names


def read_table(
    path: str | Path,
    schema: "pa.Schema | None" = None,
    columns: Iterable[str] | None = None,
    keep: "Callable[[pa.Table], pa.ChunkedArray] | None" = None,
) -> "pa.Table":
    """Read and check `columns` of a table, by default all.

    Args:
        schema: columns that the file must have, by name and type.
        keep: for some rows of the columns read, booleans of which to keep. The file is then read in
            batches, so that memory holds little more than the rows kept.

    Raises:
        BadInput: the file is missing.
        DamagedFile: it is damaged, has another schema or lacks a column.
    """
    import pyarrow as pa

    selected = None if columns is None else list(columns)
    with open_parquet(path) as (file, contents):
        _check_columns(path, file.schema_arrow, schema, selected or [])
        checksums = {name: checksum for name, _, checksum in contents["columns"]}
        hashes = {name: _ColumnHash() for name in selected or file.schema_arrow.names}
        kept = []
        for batch in _batches(file, list(hashes), whole=keep is None):
            for name, column in zip(batch.column_names, batch.columns, strict=True):
                hashes[name].update(column)
            kept.append(batch if keep is None else batch.filter(keep(batch)))
        for name, column_hash in hashes.items():
            if column_hash.hexdigest() != checksums.get(name):
                raise damage_error(path, f"column {name} does not match its checksum")
    return pa.concat_tables(kept).select(list(hashes)).replace_schema_metadata(None)


def _batches(file: Any, columns: list[str], whole: bool) -> Iterator["pa.Table"]:
    """The whole table, or batches of its rows; at least one, which may be empty."""
    import pyarrow as pa

    rows, groups = file.metadata.num_rows, range(file.metadata.num_row_groups)
    if whole or rows == 0:
        yield file.read(columns=columns)
        return
    size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    for batch in file.iter_batches(max(1, _BATCH_BYTES * rows // size), columns=columns):
        yield pa.Table.from_batches([batch])


@contextmanager
def open_parquet(path: str | Path) -> Iterator[tuple[Any, dict]]:
    """Yields a `ParquetFile` and its checked metadata: `provenance` and `columns`.

    `columns` lists name, type and SHA-256. Raises as `read_table`, also for errors in the block.
    """
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
    path: str | Path, own: "pa.Schema", schema: "pa.Schema | None", selected: list[str]
) -> None:
    for name in [*(schema.names if schema else []), *selected]:
        if name not in own.names:
            raise damage_error(path, f"it has no column {name}")
    for field in schema or []:
        if (own_type := own.field(field.name).type) != field.type:
            raise damage_error(path, f"column {field.name} is {own_type}, not {field.type}")


def _float_paths(schema: "pa.Schema") -> list[str]:
    """Parquet's paths of the columns that hold floating-point numbers."""
    import pyarrow as pa

    paths = []
    for field in schema:
        path, kind = field.name, field.type
        while pa.types.is_nested(kind):
            path, kind = f"{path}.list.{kind.value_field.name}", kind.value_type
        if pa.types.is_floating(kind):
            paths.append(path)
    return paths


class _ColumnHash:
    """SHA-256 of a column's values, whatever its chunks and what is stored under its nulls."""

    def __init__(self, column: "pa.ChunkedArray | None" = None):
        self._hashes = [hashlib.sha256() for _ in range(3)]
        if column is not None:
            self.update(column)

    def update(self, column: "pa.ChunkedArray") -> None:
        for chunk in column.chunks:
            _hash_array(chunk, *self._hashes)

    def hexdigest(self) -> str:
        return sha256("".join(part.hexdigest() for part in self._hashes))


def _hash_array(array: "pa.Array", valid: Any, lengths: Any, values: Any) -> None:
    """Update the hashes of which entries are not null, of lengths of texts and lists, of values."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    valid.update(_validity(array))
    if pa.types.is_nested(kind):
        lengths.update(_filled(pc.list_value_length(array)))
        _hash_array(array.flatten(), valid, lengths, values)
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
        raise TypeError(f"columns of type {kind} cannot be stored")


# From buffers, because `to_numpy` and `fill_null` of numbers import pandas: half a second of a job
# that takes three.


def _validity(array: "pa.Array") -> "np.ndarray":
    """Which entries are not null, as booleans."""
    import numpy as np

    return _bits(array, 0) if array.null_count else np.ones(len(array), bool)


def _filled(array: "pa.Array") -> "np.ndarray":
    """The numbers or booleans of an array, with 0 for null."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        values = _bits(array, 1)
    else:
        buffer = array.buffers()[1] or b""
        values = np.frombuffer(buffer, array.type.to_pandas_dtype())[array.offset :][: len(array)]
    return np.where(_validity(array), values, values.dtype.type(0)) if array.null_count else values


def _bits(array: "pa.Array", buffer: int) -> "np.ndarray":
    import numpy as np

    packed = np.frombuffer(array.buffers()[buffer] or b"", np.uint8)
    return np.unpackbits(packed, bitorder="little")[array.offset :][: len(array)].astype(bool)
