"""Rows gathered in blocks against pyarrow's own conversion."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from advdenoise.stages.columns import Columns

KINDS = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("label", pa.int32()),
        ("score", pa.float32()),
        ("right", pa.bool_()),
        ("vector", pa.list_(pa.float32(), 2)),
    ]
)


def test_blocks_of_arrays_tensors_and_single_values_become_rows():
    columns = Columns(KINDS)
    columns.add(
        3,
        id=np.array([5, 2**40, -1]),
        name="Größe",
        label=torch.tensor([1, 2, 3]),
        score=np.array([0.5, np.nan, -1.0]),
        right=torch.tensor([True, False, True]),
        vector=torch.tensor([[1.0, 2.0], [np.nan, 4.0], [5.0, 6.0]]).T.contiguous().T,
    )
    columns.add(
        2,
        id=7,
        name=np.array(["a", "bc"]),
        label=4,
        score=2,
        right=None,
        vector=np.zeros((2, 2)),
    )
    expected = {
        "id": [5, 2**40, -1, 7, 7],
        "name": ["Größe"] * 3 + ["a", "bc"],
        "label": [1, 2, 3, 4, 4],
        "score": [0.5, None, -1.0, 2.0, 2.0],
        "right": [True, False, True, None, None],
    }
    result = columns.table()
    result.validate(full=True)
    assert result.schema == KINDS
    assert {name: result[name].to_pylist() for name in expected} == expected
    vectors = np.array(result["vector"].to_pylist())
    assert np.array_equal(vectors, [[1, 2], [np.nan, 4], [5, 6], [0, 0], [0, 0]], equal_nan=True)
    assert result["vector"].chunk(0).flatten().null_count == 0  # NaN in a vector is a number


def test_a_tensor_that_is_a_slice_or_turned_is_stored_in_its_order():
    columns = Columns(pa.schema([("id", pa.int64())]))
    columns.add(3, id=torch.arange(10)[1::3])
    columns.add(3, id=np.arange(3)[::-1])
    assert columns.table()["id"].to_pylist() == [1, 4, 7, 2, 1, 0]


def test_fractions_are_no_whole_numbers():
    with pytest.raises(TypeError):
        Columns(pa.schema([("id", pa.int64())])).add(1, id=np.array([0.5]))


@pytest.mark.parametrize("values", [np.array([1]), np.ones((2, 1)), np.ones(3), np.ones((3, 2))])
def test_values_are_as_many_as_rows(values):
    with pytest.raises(ValueError, match="2 rows"):
        Columns(pa.schema([("score", pa.float32())])).add(2, score=values)


@pytest.mark.parametrize("values", [np.array([2**31]), torch.tensor([-(2**40)]), 2**31])
def test_numbers_that_do_not_fit_are_not_cut(values):
    with pytest.raises(ValueError, match="do not fit into int32"):
        Columns(pa.schema([("label", pa.int32())])).add(1, label=values)


def test_writing_predictions_imports_no_pandas(tmp_path):
    """It takes half a second, and most jobs write no more than such a table."""
    code = (
        "import sys, numpy as np\n"
        "from advdenoise.io.parquet import write_table\n"
        "from advdenoise.io.schemas import PREDICTIONS\n"
        "from advdenoise.stages.columns import Columns\n"
        "columns = Columns(PREDICTIONS)\n"
        "row = dict.fromkeys(PREDICTIONS.names, 0)\n"
        "row |= dict.fromkeys(['threat', 'attack_point', 'purifier', 'purifier_point'], 'x')\n"
        "row |= dict.fromkeys(['fooled_last', 'skipped'], False)\n"
        "columns.add(2, **row | {'l2': np.array([1.0, 2.0]), 'error_before': None})\n"
        f"write_table({str(tmp_path / 'some.parquet')!r}, columns.table(), {{}})\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
