"""Rows gathered batch by batch into one Parquet table of a given schema."""

import numpy as np
import pyarrow as pa


class Columns:
    """Collects blocks of rows; a block gives each column an array or one value for all rows."""

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._blocks: list[pa.RecordBatch] = []

    def add(self, rows: int, **values) -> None:
        """Add `rows` rows. NaN in a float column means null where None was given for it."""
        arrays = [_array(values[field.name], rows, field.type) for field in self._schema]
        self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self._blocks, self._schema)


def _array(value, rows: int, kind: pa.DataType) -> pa.Array:
    if value is None:
        return pa.nulls(rows, kind)
    if hasattr(value, "cpu"):  # a tensor; a job that makes none need not load torch
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray):
        if pa.types.is_fixed_size_list(kind):
            flat = pa.array(np.ascontiguousarray(value).reshape(-1), kind.value_type)
            return pa.FixedSizeListArray.from_arrays(flat, type=kind)
        return pa.array(value, kind, from_pandas=pa.types.is_floating(kind))
    return pa.repeat(pa.scalar(value, kind), rows)
