"""Arrays in HDF5 files."""

import numpy as np
import pytest

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from tests.io.samples import PROVENANCE, python, write


@pytest.mark.parametrize("codec", ["blosc", "gzip"])
@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", "f8", "bool"])
@pytest.mark.parametrize("shape", [(1,), (7,), (300, 3, 5, 4), (0,), (0, 2, 3), (4, 0)])
def test_arrays_are_read_exactly(tmp_path, codec, dtype, shape):
    array = (np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)
    with create_hdf5(tmp_path / "x.h5", {}) as file:
        add_array(file, "whole", array, codec=codec)
        sliced = add_array(file, "a/sliced", shape=shape, dtype=dtype, codec=codec, rows=4)
        for start in range(0, shape[0], 3):
            sliced[start : start + 3] = array[start : start + 3]
    with open_hdf5(tmp_path / "x.h5") as file:
        for name in ("whole", "a/sliced"):
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name][...], array)
            assert array.size == 0 or file[name].fletcher32


@pytest.mark.parametrize(
    ("shape", "dtype", "rows"),
    [
        ((10_000, 3, 32, 32), "f4", 128),  # 1.5 MB
        ((10_000, 3, 32, 32), "u1", 512),
        ((9, 3, 513, 513), "f4", 1),  # one row is 3.2 MB
        ((100, 1, 28, 28), "f4", 100),  # all of it
    ],
)
def test_chunks_are_one_to_four_megabytes(tmp_path, shape, dtype, rows):
    with create_hdf5(tmp_path / "x.h5", {}) as file:
        dataset = add_array(file, "x", shape=shape, dtype=dtype)
        assert dataset.chunks == (rows, *shape[1:])


@pytest.mark.parametrize("data", [np.float32(1), ["text"], np.array([None]), np.array([1j])])
def test_only_arrays_of_numbers_are_accepted(tmp_path, data):
    with (
        pytest.raises(TypeError, match="x: must be an array of numbers"),
        create_hdf5(tmp_path / "x.h5", {}) as file,
    ):
        add_array(file, "x", data)
    assert list(tmp_path.iterdir()) == []


def test_the_kind_is_checked(tmp_path):
    write(tmp_path / "x.h5")
    with (
        pytest.raises(DamagedFile, match="it holds images, not adversarial"),
        open_hdf5(tmp_path / "x.h5", "adversarial"),
    ):
        pass


def test_only_errors_of_the_file_itself_are_its_damage(tmp_path):
    outer, inner = tmp_path / "outer.h5", tmp_path / "inner.h5"
    write(outer)
    write(inner)

    def inside(do):
        with open_hdf5(outer) as first, open_hdf5(inner) as second:
            do(first, second)

    with pytest.raises(DamagedFile, match=r"outer\.h5 is damaged .*labels"):
        inside(lambda first, second: first["labels"])
    with pytest.raises(DamagedFile, match=r"inner\.h5 is damaged .*labels"):
        inside(lambda first, second: second["labels"])
    with pytest.raises(DamagedFile, match=r"outer\.h5 is damaged .*nothing"):
        inside(lambda first, second: first["points/e1"].attrs["nothing"])
    with pytest.raises(KeyError):
        inside(lambda first, second: {}["labels"])
    with pytest.raises(OSError, match="No space") as caught:
        inside(lambda first, second: (_ for _ in ()).throw(OSError(28, "No space")))
    assert not isinstance(caught.value, BadInput)


def test_gzip_is_read_by_h5py_alone(tmp_path):
    array = np.random.default_rng(0).normal(size=(20, 1, 8, 8)).astype("f4")
    with create_hdf5(tmp_path / "x.h5", PROVENANCE) as file:
        file.attrs["classes"] = '["a"]'
        add_array(file, "images", array, codec="gzip")
    done = python(
        "import sys, h5py, numpy\n"
        "with h5py.File('x.h5') as file:\n"
        "    assert file.attrs['classes'] == '[\"a\"]'\n"
        "    numpy.save('x.npy', file['images'][...])\n"
        "assert 'hdf5plugin' not in sys.modules\n",
        cwd=tmp_path,
        HDF5_PLUGIN_PATH="/nowhere",
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), array)
