"""Tables in Parquet files."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.errors import DamagedFile
from advdenoise.io import parquet
from advdenoise.io.parquet import _ColumnHash, read_table, write_table
from tests.io.samples import PROVENANCE, table


def test_a_table_is_read_whole_or_in_part(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, table(), PROVENANCE)
    assert read_table(path).equals(table())
    assert read_table(path, table().schema).equals(table())
    part = ["hidden", "id"]
    assert read_table(path, columns=part).equals(table().select(part))


@pytest.mark.parametrize("batch_rows", [1, 7, 40])
def test_only_some_rows_are_kept(tmp_path, monkeypatch, batch_rows):
    path = tmp_path / "x.parquet"
    write_table(path, table(), {})
    size = pq.read_metadata(path).row_group(0).total_byte_size
    monkeypatch.setattr(parquet, "_BATCH_BYTES", batch_rows * size // 40 + 1)
    batches = []

    def attacked(rows):
        batches.append(len(rows))
        return pc.not_equal(rows.column("threat"), "clean")

    kept = read_table(path, table().schema, keep=attacked)
    assert kept.equals(table().filter(pc.not_equal(table()["threat"], "clean")))
    assert sum(batches) == 40 and max(batches) <= batch_rows
    part = ["hidden", "threat"]
    assert read_table(path, columns=part, keep=attacked).equals(kept.select(part))
    none = read_table(path, keep=lambda rows: pc.greater(rows["id"], 99))
    assert none.equals(table().slice(0, 0))
    write_table(path, table().slice(0, 0), {})
    assert read_table(path, keep=attacked).equals(table().slice(0, 0))


def test_rows_that_are_not_kept_are_checked_too(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, table(), {})
    metadata = pq.read_schema(path).metadata
    ids = table()["id"].to_numpy().copy()
    ids[-1] += 1
    other = table().set_column(0, "id", pa.array(ids)).replace_schema_metadata(metadata)
    pq.write_table(other, path, use_compliant_nested_type=False)
    with pytest.raises(DamagedFile, match="column id does not match"):
        read_table(path, keep=lambda rows: pc.less(rows["id"], 3))


def test_empty_and_chunked_tables(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, table().slice(0, 0), {})
    assert read_table(path).equals(table().slice(0, 0))
    pieces = pa.concat_tables([table().slice(0, 7), table().slice(7, 0), table().slice(7)])
    write_table(path, pieces, {})
    assert read_table(path).equals(table())


def test_checksums_ignore_chunks_and_what_is_stored_under_nulls():
    whole = table()
    for start in (0, 1, 13):
        pieces = pa.concat_tables([whole.slice(0, start), whole.slice(start)])
        for column, other in zip(whole.columns, pieces.columns, strict=True):
            assert _ColumnHash(column).hexdigest() == _ColumnHash(other).hexdigest()
    mask = pa.array([True, False]).to_numpy(zero_copy_only=False)
    hidden = [pa.array(np.array([x, 2.0]), mask=mask) for x in (1.0, 7.0)]
    first, second = (_ColumnHash(pa.chunked_array([x])).hexdigest() for x in hidden)
    assert first == second


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6))
def test_checksums_of_different_texts_differ(texts):
    def digest(values):
        return _ColumnHash(pa.chunked_array([pa.array(values, pa.string())])).hexdigest()

    shifted = [*texts[1:], *texts[:1]]
    assert (digest(texts) == digest(shifted)) == (texts == shifted)
    assert digest(texts) != digest([*texts, None]) != digest([*texts, ""])


def test_another_schema_is_damage(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, table(), {})
    with pytest.raises(DamagedFile, match="it has no column score"):
        read_table(path, pa.schema([("id", pa.int64()), ("score", pa.float32())]))
    with pytest.raises(DamagedFile, match="column id is int64, not int32"):
        read_table(path, pa.schema([("id", pa.int32())]))
    with pytest.raises(DamagedFile, match="column hidden is fixed_size_list.*3.*, not .*4"):
        read_table(path, pa.schema([("hidden", pa.list_(pa.float32(), 4))]))
    with pytest.raises(DamagedFile, match="it has no column score"):
        read_table(path, columns=["id", "score"])


def test_a_column_of_another_type_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot be stored"):
        write_table(tmp_path / "x.parquet", pa.table({"x": [b"bytes"]}), {})
