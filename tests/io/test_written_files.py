"""Files are complete or absent, and damage to them is noticed, whatever their format."""

import hashlib
import os
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.files import write_text
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from tests.io.samples import PROVENANCE, SUFFIXES, python, read, table, write


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """By suffix: path, bytes and contents of an undamaged file."""
    folder = tmp_path_factory.mktemp("originals")
    files = {}
    for suffix in SUFFIXES:
        path = folder / f"x.{suffix}"
        write(path)
        files[suffix] = path, path.read_bytes(), read(path)
    return files


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(originals, suffix, place, bit):
    path, whole, contents = originals[suffix]
    altered = bytearray(whole)
    altered[int(place * len(whole))] ^= 1 << bit
    check_noticed_or_harmless(path, altered, contents)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True))
def test_truncation_is_noticed(originals, suffix, place):
    path, whole, contents = originals[suffix]
    check_noticed_or_harmless(path, whole[: int(place * len(whole))], contents)


def check_noticed_or_harmless(path, altered, contents):
    copy = path.with_stem("altered")
    copy.write_bytes(altered)
    sidecar = Path(f"{path}.sha256")
    if sidecar.exists():
        Path(f"{copy}.sha256").write_bytes(sidecar.read_bytes())
    try:
        altered_contents = read(copy)
    except DamagedFile:
        return
    assert altered_contents == contents


def test_a_flipped_bit_in_the_heap_of_texts_neither_hangs_nor_passes(originals):
    path, whole, _ = originals["h5"]
    altered = bytearray(whole)
    altered[whole.index(b"GCOL") + 24] ^= 4  # the length of the heap's first text
    copy = path.with_stem("heap")
    copy.write_bytes(altered)
    with pytest.raises(DamagedFile, match=r"heap\.h5"), open_hdf5(copy):
        pass


def test_the_message_names_the_remedy(tmp_path):
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
def test_a_file_of_another_format(tmp_path, suffix, contents):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(contents)
    Path(f"{path}.sha256").write_text(hashlib.sha256(contents).hexdigest())
    with pytest.raises(DamagedFile, match=rf"x\.{suffix} is damaged"):
        read(path)


def test_files_of_the_same_format_from_elsewhere(tmp_path):
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
def test_a_missing_file_is_bad_input_but_not_damaged(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    with pytest.raises(BadInput, match="does not exist; run `snakemake") as caught:
        read(path)
    assert not isinstance(caught.value, DamagedFile)
    path.mkdir()
    with pytest.raises(BadInput, match="is a folder, not a file; delete it"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_writer_leaves_no_other_files(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"x.{suffix}"
    write(path)
    names = {path.name} | ({f"{path.name}.sha256"} if suffix == "safetensors" else set())
    assert {p.name for p in path.parent.iterdir()} == names
    assert read_provenance(path) == PROVENANCE


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_writer_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"x.{suffix}"
    write(path)
    before = sorted(tmp_path.iterdir()), path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path)
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == before


def test_a_killed_writer_leaves_nothing_at_the_path(tmp_path):
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
    (tmp_path / ".xx.h5.1.part").touch()  # of another file
    write(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".xx.h5.1.part", "x.h5"]


def test_a_rerun_writes_the_same_bytes(tmp_path):
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
    with pytest.raises(BadInput, match="has no provenance"):
        read_provenance(tmp_path / "t.csv")


def test_reading_tables_imports_no_heavy_package():
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
