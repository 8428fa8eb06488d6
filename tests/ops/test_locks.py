"""Locks: taken once, free again when their process ends, open to every user of the machine."""

import errno
import fcntl
import logging
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.ops import locks

ROOT = Path(__file__).parents[2]
HOLD = "import sys; from advdenoise.ops import locks; from pathlib import Path\n" + (
    "print(locks.take(Path(sys.argv[1]), wait=False) is not None, flush=True); sys.stdin.read()"
)


@pytest.fixture
def holding():
    """Processes that try to take a lock and keep it until they end."""
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
    first, has_it = holding(path)
    assert has_it
    assert locks.holder(path) == f"{first.pid} on {socket.gethostname()}"
    assert locks.take(path, wait=False) is None
    assert not holding(path)[1]
    first.kill()
    first.wait()
    handle = locks.take(path, wait=False)
    assert locks.holder(path).startswith(f"{os.getpid()} on ")
    assert not holding(path)[1]
    os.close(handle)
    assert holding(path)[1]


def test_everybody_can_open_it_whatever_the_mask_of_who_made_it(tmp_path):
    before = os.umask(0o077)
    try:
        os.close(locks.take(tmp_path / "lock"))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666


def without_rights(refused: int, monkeypatch) -> list[int]:
    """The flags of all calls of `os.open`; those with any of the `refused` ones fail."""
    calls, real = [], os.open

    def guarded(path, flags, *mode):
        calls.append(flags)
        if flags & refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", guarded)
    return calls


def test_a_file_of_another_user_is_opened_and_not_made(tmp_path, monkeypatch):
    """As Linux guards files in folders for everyone: fs.protected_regular."""
    path = tmp_path / "lock"
    path.write_text("1 on theirs")
    calls = without_rights(os.O_CREAT, monkeypatch)
    handle = locks.take(path)
    assert locks.take(path, wait=False) is None
    assert calls and not any(flags & os.O_CREAT for flags in calls)
    os.close(handle)


def test_the_right_to_read_suffices(tmp_path, monkeypatch, holding):
    path = tmp_path / "lock"
    path.write_text("")
    without_rights(os.O_RDWR, monkeypatch)
    handle = locks.take(path)
    assert handle is not None and locks.holder(path) == "unknown"
    monkeypatch.undo()
    assert not holding(path)[1]
    os.close(handle)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("data")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        locks.take(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "data"


def test_a_file_system_without_locks_is_tolerated(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING):
        os.close(locks.take(tmp_path / "lock"))
    assert "cannot be locked (Function not implemented)" in caplog.text


def test_a_lock_file_removed_while_waiting_is_no_lock(tmp_path, monkeypatch):
    path, removed, flock = tmp_path / "state" / "lock", [], fcntl.flock

    def slow(handle, operation):
        if not removed:  # the process that was waited for removes its folder just now
            removed.append(path.unlink())
            path.parent.rmdir()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    held = locks.take(path)
    handle = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
    os.close(held)
