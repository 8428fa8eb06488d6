"""Files are whole or absent, tell how they were made, and no damage goes unnoticed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io import parquet
from advdenoise.io.files import write_text
from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.io.json_files import read_json, write_json
from advdenoise.io.parquet import _column_digest, read_table, write_table
from advdenoise.io.provenance import collect_provenance, read_provenance
from advdenoise.io.weights import read_weights, write_weights

ROOT = Path(__file__).parents[2]
PROVENANCE = {"settings": {"epsilon": 0.1, "steps": 8}, "commit": "0123abc", "wall_seconds": 1.5}
SUFFIXES = ["h5", "parquet", "safetensors", "json"]


def python(code: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )


def table(rows: int = 40) -> pa.Table:
    generator = np.random.default_rng(0)
    vectors = pa.array(generator.normal(size=rows * 3).astype("f4"))
    return pa.table(
        {
            "id": np.arange(rows),
            "threat": ["clean", "fgsm@cnn4é"] * (rows // 2),
            "epsilon": pa.array([None, 0.1] * (rows // 2), pa.float32()),
            "success": pa.array([None, True] * (rows // 2)),
            "hidden": pa.FixedSizeListArray.from_arrays(vectors, 3),
        }
    )


def write(path: Path) -> None:
    """One small file of the kind its suffix says, with everything that such files hold."""
    generator = np.random.default_rng(0)
    if path.suffix == ".h5":
        with create_hdf5(path, PROVENANCE, "images") as file:
            file.attrs["classes"] = json.dumps(["zero", "one"] * 10)
            images = generator.integers(0, 30, (9, 1, 8, 8), dtype=np.uint8)
            add_array(file, "images", images, rows=4)
            add_array(file, "none", shape=(0, 3), dtype="f4")
            group = file.create_group("points/e1")
            group.attrs["epsilon"] = 0.25
            perturbation = generator.normal(size=(9, 1, 8, 8)).astype("f4")
            add_array(group, "perturbation", perturbation, rows=5, codec="gzip")
    elif path.suffix == ".parquet":
        write_table(path, table(), PROVENANCE)
    elif path.suffix == ".safetensors":
        write_weights(path, {"a": torch.arange(9.0), "n": torch.tensor(3)}, PROVENANCE)
    else:
        write_json(path, {"mean": 0.1, "shares": [0.25, 1], "name": "é"}, PROVENANCE)


def read(path: Path) -> dict:
    """Everything that can be read from such a file, comparable with ==."""
    found = {"provenance": read_provenance(path)}
    if path.suffix == ".h5":
        with open_hdf5(path, "images") as file:
            found["/"] = dict(file.attrs)
            file.visititems(lambda name, item: found.update({name: hdf5_item(item)}))
    elif path.suffix == ".parquet":
        found["table"] = read_table(path).to_pydict()
    elif path.suffix == ".safetensors":
        tensors, found["read"] = read_weights(path)
        found |= {name: (tensor.dtype, tensor.tolist()) for name, tensor in tensors.items()}
    else:
        found["value"] = read_json(path)
    return found


def hdf5_item(item):
    if isinstance(item, h5py.Dataset):
        return item.dtype.str, item.shape, item[...].tobytes()
    return dict(item.attrs)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """suffix -> (path, bytes, everything read from it)"""
    folder = tmp_path_factory.mktemp("originals")
    files = {}
    for suffix in SUFFIXES:
        path = folder / f"x.{suffix}"
        write(path)
        files[suffix] = path, path.read_bytes(), read(path)
    return files


# Damage


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bit_is_found_or_harmless(originals, suffix, place, bit):
    path, whole, contents = originals[suffix]
    altered = bytearray(whole)
    altered[int(place * len(whole))] ^= 1 << bit
    check_found_or_harmless(path, altered, contents)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True))
def test_truncation_is_found(originals, suffix, place):
    path, whole, contents = originals[suffix]
    check_found_or_harmless(path, whole[: int(place * len(whole))], contents)


def check_found_or_harmless(path, altered, contents):
    copy = path.with_stem("altered")
    copy.write_bytes(altered)
    sidecar = Path(f"{path}.sha256")
    if sidecar.exists():
        Path(f"{copy}.sha256").write_bytes(sidecar.read_bytes())
    try:
        found = read(copy)
    except DamagedFile:
        return
    assert found == contents


def test_flip_in_the_text_heap_neither_hangs_nor_passes(originals):
    path, whole, _ = originals["h5"]
    altered = bytearray(whole)
    altered[whole.index(b"GCOL") + 24] ^= 4  # the length of the heap's first text
    copy = path.with_stem("heap")
    copy.write_bytes(altered)
    with pytest.raises(DamagedFile, match=r"heap\.h5"), open_hdf5(copy):
        pass


def test_message_says_what_to_do(tmp_path):
    path = tmp_path / "x.parquet"
    write(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFile) as caught:
        read_table(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith(f"); delete it and run `snakemake --cores all {path}`.")
    assert "\n" not in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("contents", [b"", b"\x89PNG\r\n\x1a\n" + bytes(5000), b"{}", b"[1]"])
def test_file_of_another_kind(tmp_path, suffix, contents):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(contents)
    Path(f"{path}.sha256").write_text(hashlib.sha256(contents).hexdigest())
    with pytest.raises(DamagedFile, match=rf"x\.{suffix} is damaged"):
        read(path)


def test_files_of_the_same_format_by_others(tmp_path):
    import safetensors.torch

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros(3)
    pq.write_table(table(), tmp_path / "x.parquet")
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    digest = hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    (tmp_path / "x.safetensors.sha256").write_text(digest)
    (tmp_path / "x.json").write_text('{"value": 1, "provenance": {}}')
    for suffix in SUFFIXES:
        with pytest.raises(DamagedFile):
            read(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file_is_bad_input_but_not_damage(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(BadInput, match="does not exist; run `snakemake") as caught:
        read(path)
    assert not isinstance(caught.value, DamagedFile)
    path.mkdir()
    with pytest.raises(BadInput, match="is a folder, not a file; delete it"):
        read(path)


def test_checksum_of_weights_missing_or_different(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path)
    sidecar = Path(f"{path}.sha256")
    assert sidecar.read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    sidecar.write_text("0" * 64)
    with pytest.raises(DamagedFile, match=r"does not match .*x\.safetensors\.sha256"):
        read_weights(path)
    sidecar.unlink()
    with pytest.raises(DamagedFile, match=r"x\.safetensors\.sha256 is missing"):
        read_weights(path)


# Writing


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_file_stands_alone(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"x.{suffix}"
    write(path)
    names = {path.name} | ({f"{path.name}.sha256"} if suffix == "safetensors" else set())
    assert {p.name for p in path.parent.iterdir()} == names
    assert read_provenance(path) == PROVENANCE


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_writer_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"x.{suffix}"
    write(path)
    before = sorted(tmp_path.iterdir()), path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == before


def test_killed_writer_leaves_nothing_at_the_path(tmp_path):
    path = tmp_path / "x.h5"
    killed = python(
        "import os, signal\n"
        "from advdenoise.io.hdf5 import add_array, create_hdf5\n"
        f"with create_hdf5({str(path)!r}, {{}}) as file:\n"
        "    add_array(file, 'images', [1, 2, 3])\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".x.h5.") and leftover.suffix == ".part"
    stranger = tmp_path / ".xx.h5.1.part"  # of another file
    stranger.touch()
    write(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".xx.h5.1.part", "x.h5"]


def test_rerun_gives_the_same_bytes(tmp_path):
    for suffix in SUFFIXES:
        write(tmp_path / f"first.{suffix}")
    following = int(time.time()) + 5
    for suffix in SUFFIXES:
        path = tmp_path / f"second.{suffix}"
        write(path)
        os.utime(path, (following, following))
        assert path.read_bytes() == (tmp_path / f"first.{suffix}").read_bytes()


def test_text(tmp_path):
    write_text(tmp_path / "t.csv", "a,é\r\n1,2\n")
    assert (tmp_path / "t.csv").read_bytes() == "a,é\r\n1,2\n".encode()
    with pytest.raises(BadInput, match="carries no provenance"):
        read_provenance(tmp_path / "t.csv")


# HDF5


@pytest.mark.parametrize("codec", ["blosc", "gzip"])
@pytest.mark.parametrize("dtype", ["u1", "i8", "f4", "f8", "bool"])
@pytest.mark.parametrize("shape", [(1,), (7,), (300, 3, 5, 4), (0,), (0, 2, 3), (4, 0)])
def test_arrays_come_back_exactly(tmp_path, codec, dtype, shape):
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
def test_only_arrays_of_numbers(tmp_path, data):
    with (
        pytest.raises(TypeError, match="x: an array of numbers"),
        create_hdf5(tmp_path / "x.h5", {}) as file,
    ):
        add_array(file, "x", data)
    assert list(tmp_path.iterdir()) == []


def test_kind_is_compared(tmp_path):
    write(tmp_path / "x.h5")
    with (
        pytest.raises(DamagedFile, match="it holds images, not adversarial"),
        open_hdf5(tmp_path / "x.h5", "adversarial"),
    ):
        pass


def test_only_trouble_with_the_file_itself_is_its_damage(tmp_path):
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


def test_export_is_read_by_bare_h5py(tmp_path):
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


# Parquet


def test_table_comes_back_whole_or_in_part(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, table(), PROVENANCE)
    assert read_table(path).equals(table())
    assert read_table(path, table().schema).equals(table())
    part = ["hidden", "id"]
    assert read_table(path, columns=part).equals(table().select(part))


@pytest.mark.parametrize("piece_rows", [1, 7, 40])
def test_only_the_rows_wanted_are_kept(tmp_path, monkeypatch, piece_rows):
    path = tmp_path / "x.parquet"
    write_table(path, table(), {})
    size = pq.read_metadata(path).row_group(0).total_byte_size
    monkeypatch.setattr(parquet, "_PIECE_BYTES", piece_rows * size // 40 + 1)
    seen = []

    def attacked(rows):
        seen.append(len(rows))
        return pc.not_equal(rows.column("threat"), "clean")

    found = read_table(path, table().schema, keep=attacked)
    assert found.equals(table().filter(pc.not_equal(table()["threat"], "clean")))
    assert sum(seen) == 40 and max(seen) <= piece_rows
    part = ["hidden", "threat"]
    assert read_table(path, columns=part, keep=attacked).equals(found.select(part))
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


def test_digest_does_not_see_chunks_or_what_lies_under_nulls():
    whole = table()
    for start in (0, 1, 13):
        pieces = pa.concat_tables([whole.slice(0, start), whole.slice(start)])
        for column, other in zip(whole.columns, pieces.columns, strict=True):
            assert _column_digest(column) == _column_digest(other)
    mask = pa.array([True, False]).to_numpy(zero_copy_only=False)
    hidden = [pa.array(np.array([x, 2.0]), mask=mask) for x in (1.0, 7.0)]
    first, second = (_column_digest(pa.chunked_array([x])) for x in hidden)
    assert first == second


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6))
def test_digest_tells_texts_apart(texts):
    def digest(values):
        return _column_digest(pa.chunked_array([pa.array(values, pa.string())]))

    shifted = [*texts[1:], *texts[:1]]
    assert (digest(texts) == digest(shifted)) == (texts == shifted)
    assert digest(texts) != digest([*texts, None]) != digest([*texts, ""])


def test_wrong_schema(tmp_path):
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


def test_a_column_that_cannot_be_checked_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot be stored"):
        write_table(tmp_path / "x.parquet", pa.table({"x": [b"bytes"]}), {})


# Weights, JSON, provenance


def test_weights_keep_types_and_strides_do_not_matter(tmp_path):
    tensors = {
        "weight": torch.randn(4, 3, requires_grad=True),
        "half": torch.randn(3).half(),
        "transposed": torch.randn(3, 4).T,
        "steps": torch.tensor(7),
        "none": torch.zeros(0, 2),
    }
    write_weights(tmp_path / "x.safetensors", tensors, PROVENANCE)
    found, made_by = read_weights(tmp_path / "x.safetensors")
    assert made_by == PROVENANCE
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_json_keys_and_numbers(tmp_path):
    value = {"mean": 0.1, 10: (1, 2), 9: None, "large": 1e300}
    write_json(tmp_path / "x.json", value, PROVENANCE)
    found = read_json(tmp_path / "x.json")
    assert found == {"mean": 0.1, "10": [1, 2], "9": None, "large": 1e300}
    parts = json.loads((tmp_path / "x.json").read_text())
    assert parts.keys() == {"value", "provenance", "sha256"}


def test_provenance_is_plain_json(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    made_by = collect_provenance({"epsilon": 0.1}, time.time() - 5)
    assert json.loads(json.dumps(made_by)) == made_by
    assert made_by["settings"] == {"epsilon": 0.1}
    assert made_by["slurm_job"] == "42"
    assert 5 <= made_by["wall_seconds"] < 60
    assert made_by["device"] == "cpu" or torch.cuda.is_initialized()
    assert made_by["versions"]["numpy"] == np.__version__


def test_commit_and_dirty_flag(tmp_path):
    library = tmp_path / "src" / "advdenoise"
    shutil.copytree(ROOT / "src/advdenoise/io", library / "io")
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "src/advdenoise" / name, library)

    def checkout():
        code = (
            "from advdenoise.io.provenance import collect_provenance; import json;"
            "made_by = collect_provenance({}, 0);"
            "print(json.dumps([made_by['commit'], made_by['dirty']]))"
        )
        variables = {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(tmp_path / "src"),
            "GIT_CEILING_DIRECTORIES": str(tmp_path),
        }
        return json.loads(python(code, tmp_path, **variables).stdout)

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert checkout() == [None, None]
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "All.")
    assert checkout() == [git("rev-parse", "HEAD"), False]
    (tmp_path / "results.csv").touch()
    assert checkout()[1] is False
    (library / "errors.py").write_text((library / "errors.py").read_text() + "\n")
    assert checkout()[1] is True


def test_light_modules_stay_light():
    done = python(
        "import sys\n"
        "import advdenoise.metrics, advdenoise.statistics, advdenoise.io.schemas\n"
        "from advdenoise.io.provenance import collect_provenance\n"
        "collect_provenance({}, 0)\n"
        "heavy = {'torch', 'h5py', 'hdf5plugin', 'safetensors', 'scipy', 'statsmodels', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "import os; assert os.environ['HDF5_USE_FILE_LOCKING'] == 'FALSE'\n"
    )
    assert done.returncode == 0, done.stderr
