"""Rows gathered batch by batch into one Parquet table of a given schema."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


class Columns:
    """Collects blocks of rows; a block gives each column an array or one value for all rows."""

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._blocks: list[pa.RecordBatch] = []

    def add(self, rows: int, **values) -> None:
        """Add `rows` rows. None, what a masked array masks, and NaN in a float column are null."""
        arrays = [_array(values[field.name], rows, field.type) for field in self._schema]
        self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self._blocks, self._schema)


def _array(value, rows: int, kind: pa.DataType) -> pa.Array:
    if value is None:
        return pa.nulls(rows, kind)
    if pa.types.is_string(kind):
        return _texts([value] * rows if isinstance(value, str) else value)
    if hasattr(value, "cpu"):  # a tensor; a job that makes none need not load torch
        value = value.cpu().numpy()
    if pa.types.is_fixed_size_list(kind):
        values = _of_numbers(np.ravel(value), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    if isinstance(value, np.ma.MaskedArray):
        return _of_numbers(value.filled(0), kind, ~np.ma.getmaskarray(value))
    values = np.full(rows, value) if np.ndim(value) == 0 else value
    if values.shape != (rows,):
        raise ValueError(f"{rows} rows were announced, but the values are {values.shape}")
    known = ~np.isnan(values) if pa.types.is_floating(kind) else None
    return _of_numbers(values, kind, known)


# From buffers, for `pa.array` and `pa.scalar` import pandas, to ask whether they were given some of
# its objects: half a second of a job that takes three.


def _texts(texts: Sequence[str]) -> pa.Array:
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))
    )


def _of_numbers(values: np.ndarray, kind: pa.DataType, known: np.ndarray | None = None) -> pa.Array:
    stored = values.astype(kind.to_pandas_dtype(), casting="same_kind")
    if pa.types.is_integer(kind) and (stored != values).any():
        raise ValueError(f"{values.min()} to {values.max()} do not fit into {kind}")
    buffer = _bits(stored) if pa.types.is_boolean(kind) else pa.py_buffer(stored)
    validity = None if known is None or known.all() else _bits(known)
    return pa.Array.from_buffers(kind, len(stored), [validity, buffer])


def _bits(flags: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))
