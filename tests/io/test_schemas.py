"""Every schema survives a file, and holds the columns that identify a row."""

import pyarrow as pa
import pytest

from advdenoise.errors import DamagedFile
from advdenoise.io import schemas
from advdenoise.io.parquet import read_table, write_table

ALL = {
    "predictions": schemas.PREDICTIONS,
    "distances": schemas.DISTANCES,
    "detection": schemas.DETECTION,
    "history": schemas.HISTORY,
    "cost": schemas.COST,
    "iqr": schemas.iqr_schema(classes=7, hidden=50),
    "segmentation": schemas.segmentation_schema(classes=3),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rows", [0, 3])
def test_schema_survives_a_file(tmp_path, name, rows):
    table = pa.Table.from_pylist([row(ALL[name])] * rows, ALL[name])
    write_table(tmp_path / "x.parquet", table, {})
    read = read_table(tmp_path / "x.parquet", ALL[name])
    assert read.schema == ALL[name]
    assert read.equals(table)


@pytest.mark.parametrize("name", ALL)
def test_schema_takes_nulls(tmp_path, name):
    empty = {field.name: None for field in ALL[name] if not pa.types.is_nested(field.type)}
    table = pa.Table.from_pylist([row(ALL[name]), row(ALL[name]) | empty], ALL[name])
    write_table(tmp_path / "x.parquet", table, {})
    assert read_table(tmp_path / "x.parquet", ALL[name]).equals(table)


def row(schema):
    def value(kind):
        if pa.types.is_fixed_size_list(kind):
            return [0.5 if pa.types.is_floating(kind.value_type) else 2] * kind.list_size
        if pa.types.is_boolean(kind):
            return True
        return "word" if pa.types.is_string(kind) else 1

    return {field.name: value(field.type) for field in schema}


def test_vectors_have_the_lengths_asked_for():
    schema = schemas.iqr_schema(classes=7, hidden=50)
    lengths = [schema.field(n).type.list_size for n in ("predicted", "probabilities", "hidden")]
    assert lengths == [1, 7, 50]


def test_predicted_masks_have_no_label_and_one_number_for_each_pair_of_classes():
    schema = schemas.segmentation_schema(classes=3)
    assert schema.field("confusion").type == pa.list_(pa.int32(), 9)
    without = ["label", "prediction", "confidence", "label_rank"]
    shared = [name for name in schemas.PREDICTIONS.names if name not in without]
    assert schema.names == [*shared, "confusion"]
    assert schemas.SEGMENTATION.names == shared


def test_iqr_of_another_classifier_is_refused(tmp_path):
    schema = schemas.iqr_schema(classes=7, hidden=50)
    table = pa.Table.from_pylist([row(schema)], schema)
    write_table(tmp_path / "x.parquet", table, {})
    with pytest.raises(DamagedFile, match="column probabilities"):
        read_table(tmp_path / "x.parquet", schemas.iqr_schema(classes=10, hidden=50))
