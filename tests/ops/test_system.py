"""Errors of the operating system become one sentence, in whatever form a library raises them."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.errors import BadInput
from advdenoise.ops import system

REPOSITORY = Path(__file__).parents[2]
AGAIN = "run the same command again, what is done is kept"

# Writes a file of each kind with a limit of 20 kB, and prints the errors.
WRITERS = """
import os, resource, sys
from pathlib import Path
import h5py, hdf5plugin, numpy as np, pyarrow as pa, pyarrow.parquet, safetensors.torch, torch
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.json_files import write_json
from advdenoise.io.parquet import write_table
from advdenoise.io.weights import write_weights
from advdenoise.ops import system
from advdenoise.training._resume import State

folder = Path(sys.argv[1])
noise = np.random.default_rng(0).random((300, 300), dtype=np.float32)

def images(name):
    with create_hdf5(folder / name, {}) as file:
        add_array(file, "x", noise)

def slices(name):
    with create_hdf5(folder / name, {}) as file:
        stored = add_array(file, "x", shape=noise.shape, dtype="f4")
        for row in range(0, 300, 50):
            stored[row : row + 50] = noise[row : row + 50]

def weights(name):
    write_weights(folder / name, {"x": torch.from_numpy(noise)}, {})

def table(name):
    write_table(folder / name, pa.table({"x": noise.ravel()}), {})

def text(name):
    write_json(folder / name, {"x": noise.tolist()}, {})

def state(name):
    (folder / "states").mkdir()
    State(folder / "states", name).save({"x": torch.from_numpy(noise)})

writers = {"a.h5": images, "b.h5": slices, "c.safetensors": weights, "d.parquet": table}
writers |= {"e.json": text, "f": state}
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
caught = []  # HDF5 crashes as it closes what it could not write
for name, write in writers.items():
    try:
        write(name)
    except Exception as error:
        caught.append(error)
        print(system.refusal_message(error), flush=True)
print([str(path) for path in folder.rglob("*") if path.is_file()], flush=True)
os._exit(0)
"""


def test_every_writer_without_space_names_its_file_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRITERS, tmp_path], cwd=REPOSITORY, capture_output=True, text=True
    )
    *messages, left = done.stdout.splitlines()
    files = ["a.h5", "b.h5", "c.safetensors", "d.parquet", "e.json", "states/f/state.pt"]
    assert messages == [
        f"{tmp_path / file}: the file is too large for the limit of 20,000 bytes; raise it with "
        f"`ulimit -f` and {AGAIN}"
        for file in files
    ]
    assert left == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize("number", system._REASONS)
def test_each_error_number_is_one_sentence_with_file_and_remedy(number, tmp_path):
    path = tmp_path / "deep" / "a.h5"
    message = system.refusal_message(OSError(number, os.strerror(number)), path)
    assert message.startswith(f"{path}: ") and message.endswith(f" and {AGAIN}")
    assert message == system.refusal_message(OSError(number, "", str(path)), Path("another"))
    assert "{" not in message and message.count("\n") == 0 and message.count(";") == 1


def test_the_message_of_a_full_disk_names_the_free_space(tmp_path):
    left = os.statvfs(tmp_path)
    message = system.refusal_message(OSError(errno.ENOSPC, ""), tmp_path / "not" / "there")
    free = int(message.partition("system, ")[2].partition(" bytes")[0].replace(",", ""))
    assert abs(free - left.f_bavail * left.f_frsize) < 1 << 30  # other processes write as well


def hdf5(number):
    return RuntimeError(
        f"Can't write data (file write failed: time = Mon, filename = '/d/.x.h5.12.part', "
        f"file descriptor = 3, errno = {number}, error message = 'No space')"
    )


def with_cause(error, cause):
    error.__cause__ = cause
    return error


def in_context(error, context):
    error.__context__ = context
    return error


@pytest.mark.parametrize(
    "error",
    [
        hdf5(errno.ENOSPC),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left"),
        with_cause(ValueError("wrapper"), OSError(errno.ENOSPC, "")),
        in_context(RuntimeError("unexpected pos 704 vs 598"), OSError(errno.ENOSPC, "")),
    ],
)
def test_an_error_number_is_recognised_in_the_errors_of_libraries(error):
    assert "/x.h5: no space left on its file system, " in system.refusal_message(
        error, Path("/d/x.h5")
    )


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, ""),
        OSError("Corrupt snappy compressed data."),
        in_context(KeyError("a bug"), OSError(errno.ENOSPC, "")),
        RuntimeError("a bug"),
        ValueError("errno = 28"),
    ],
)
def test_other_errors_are_left_alone(error):
    assert system.refusal_message(error) is None
    assert system.system_error(error) is None
    assert not system.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        with_cause(ValueError("wrapper"), MemoryError()),
    ],
)
def test_lack_of_memory_is_recognised(error):
    assert system.is_out_of_memory(error)
    assert system.refusal_message(error) is None


def test_torch_and_numpy_raise_these_errors():
    import numpy as np
    import torch

    for allocate in (lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: np.empty(1 << 56)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            allocate()
        assert system.is_out_of_memory(raised.value)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    system.check_writable([tmp_path / "a", tmp_path / "deep" / "er" / "b"])
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file is not a folder; make it writable, or work in a copy"):
        system.check_writable([tmp_path / "file" / "deep" / "a"])
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BadInput, match=f"^{tmp_path}/deep: .* {tmp_path} is not writable for you"):
        system.check_writable([tmp_path / "deep" / "b"])


class Volume:
    """Results of `os.statvfs`, by default of a file system with free space."""

    f_flag, f_frsize, f_blocks, f_bavail, f_files, f_favail = 0, 4096, 1 << 21, 1 << 20, 100, 50

    def __init__(self, **fields):
        vars(self).update(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"f_flag": os.ST_RDONLY}, "it is on a read-only file system; make it writable"),
        (
            {"f_bavail": 3},
            "its file system is full, 12,288 bytes are free; free some space",
        ),
        (
            {"f_favail": 0},
            "its file system is full, it holds 100 files and no more; free some space",
        ),
    ],
)
def test_a_file_system_that_takes_no_files_is_refused(tmp_path, monkeypatch, fields, message):
    monkeypatch.setattr(os, "statvfs", lambda path: Volume(**fields))
    with pytest.raises(BadInput, match=message):
        system.check_writable([tmp_path / "a"])


def test_a_file_system_that_reports_no_totals_is_accepted(tmp_path, monkeypatch):
    volume = Volume(f_blocks=0, f_bavail=0, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: volume)
    system.check_writable([tmp_path / "a"])


def test_what_snakemake_itself_needs_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = Path(".snakemake")
    system.check_records(records)
    assert not records.exists()
    (records / "log").mkdir(parents=True)
    system.check_records(records)

    statvfs = os.statvfs
    full = lambda path: Volume(f_bavail=0) if str(path) == "/dev/shm" else statvfs(path)  # noqa: E731
    monkeypatch.setattr(os, "statvfs", full)
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    with pytest.raises(BadInput, match="^TMPDIR: /dev/shm is full, 0 bytes are free; free some"):
        system.check_records(records)
    monkeypatch.setenv("TMPDIR", "/is/missing")  # Python then uses another by itself
    system.check_records(records)

    mask = os.umask(0o777)
    try:
        with pytest.raises(BadInput, match="^umask 777: you could not read what a run"):
            system.check_records(records)
    finally:
        os.umask(mask)

    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda of: (12, most))
    with pytest.raises(BadInput, match="^ulimit -n 12: a run opens up to 64 files at a time; "):
        system.check_records(records)
    monkeypatch.setattr(resource, "getrlimit", lambda of: (allowed, most))

    braces = tmp_path / "a{b}"
    braces.mkdir()
    monkeypatch.chdir(braces)
    with pytest.raises(BadInput, match="Snakemake reserves braces in paths; rename the folder"):
        system.check_records(records)


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_cache_that_cannot_be_created_is_refused(tmp_path, monkeypatch, variable):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "missing"))
    system.check_cache()
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(
        BadInput, match="file is not a folder; choose another .* XDG_CACHE_HOME=FOLDER`"
    ):
        system.check_cache()


def test_messages_name_the_limits_of_the_process():
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert f"too many open files, {allowed} are allowed" in system.refusal_message(
        OSError(errno.EMFILE, ""), Path("a")
    )
