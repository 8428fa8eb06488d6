"""Locks: held once, released when their process ends, open to every user of the machine."""

import errno
import fcntl
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advdenoise.ops import locks

ROOT = Path(__file__).parents[2]
HOLD = "import sys; from advdenoise.ops import locks; from pathlib import Path\n" + (
    "lock = locks.acquire(Path(sys.argv[1]), wait=False)\n"
    "print(lock is not None, flush=True); sys.stdin.read()"
)


@pytest.fixture
def holding():
    """Processes that try to acquire a lock and keep it until they end."""
    started = []

    def start(path: Path) -> tuple[subprocess.Popen, bool]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, path], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
        )
        started.append(process)
        return process, process.stdout.readline() == "True\n"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_one_process_holds_it_until_it_is_killed(tmp_path, holding):
    path = tmp_path / "new" / "lock"
    first, acquired = holding(path)
    assert acquired
    assert locks.holder(path) == f"{first.pid} on {socket.gethostname()}"
    assert locks.acquire(path, wait=False) is None
    assert not holding(path)[1]
    first.kill()
    first.wait()
    lock = locks.acquire(path, wait=False)
    assert locks.holder(path).startswith(f"{os.getpid()} on ")
    assert not holding(path)[1]
    lock.release()
    assert holding(path)[1]


def test_every_user_can_open_it_whatever_the_umask_of_its_creator(tmp_path):
    before = os.umask(0o077)
    try:
        locks.acquire(tmp_path / "lock")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666


def test_a_file_of_another_user_is_locked(tmp_path, monkeypatch):
    """In folders for everyone, Linux refuses to open it with O_CREAT: fs.protected_regular."""
    path, real = tmp_path / "lock", os.open
    path.write_text("1 on theirs")

    def guarded(path, flags, *mode):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", guarded)
    lock = locks.acquire(path)
    assert locks.acquire(path, wait=False) is None
    assert locks.holder(path).startswith(f"{os.getpid()} on ")
    lock.release()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("data")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        locks.acquire(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "data"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_tolerated(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING):
        locks.acquire(tmp_path / "lock").release()
    assert f"cannot be locked ({os.strerror(number)})" in caplog.text


def test_a_folder_that_the_holder_removes_is_created_again(tmp_path, monkeypatch, holding, caplog):
    """As `resume.remove_state` removes it; the lock of a removed file is none."""
    path = tmp_path / "state" / "lock"
    first, _ = holding(path)
    removed, sleep = [], time.sleep

    def remove_and_sleep(seconds):
        if not removed:
            removed.append(shutil.rmtree(path.parent))
            first.kill()
            first.wait()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", remove_and_sleep)
    lock = locks.acquire(path)
    assert removed and not holding(path)[1]
    assert f"is locked by process {first.pid} on" in caplog.text
    lock.release()


def test_importing_the_library_imports_neither_filelock_nor_psutil():
    """Entry scripts and the Snakefile import these rooms in each job."""
    code = (
        "import sys; from advdenoise.ops import cluster, devices, failures, resume, system"
        "\nassert not {'filelock', 'psutil'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
