"""Which Snakemake runs hold this folder, and whether they still live.

Snakemake leaves its lock behind when it is killed, and its jobs work on without it; the lock does
not say whose it is. So every run announces itself beside the lock and marks its jobs, and
`unlock` takes away what dead runs left. Paths are those of the working folder.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from advdenoise.errors import BadInput
from advdenoise.ops.files import remove, why_no_file

STATE = Path(".snakemake")
LOCKS = STATE / "locks"
RUNS = STATE / "running"
MARK = "ADVDENOISE_RUN"  # in the environment of a run's jobs: the run's name
GRACE = 30.0  # seconds that a job is given to save its state


class Run(NamedTuple):
    """One Snakemake process. `system` tells computers and containers apart, `boot` their starts."""

    host: str
    system: str
    boot: str
    pid: int
    birth: str
    started: str

    @property
    def name(self) -> str:
        return f"{self.host}-{self.pid}-{self.birth}"

    @property
    def file(self) -> Path:
        return RUNS / f"{self.name}.json"

    def alive(self) -> bool | None:
        """Whether it is at work; None if that cannot be seen from this computer."""
        if (self.host, self.system) != (socket.gethostname(), _system()):
            return None
        if self.boot != _boot():
            return False
        birth = _birth(self.pid)
        return birth is not None and birth in (self.birth, "")


def announce() -> None:
    """Say that this process runs the workflow here. Called by the Snakefile as a run starts."""
    started = datetime.now().astimezone().isoformat(" ", "seconds")
    pid = os.getpid()
    run = Run(socket.gethostname(), _system(), _boot(), pid, _birth(pid) or "", started)
    if RUNS.exists() and not RUNS.is_dir():
        remove(RUNS)
    RUNS.mkdir(parents=True, exist_ok=True)
    draft = run.file.with_suffix(".draft")
    draft.write_text(json.dumps(run._asdict()), encoding="utf-8")
    draft.replace(run.file)
    os.environ[MARK] = run.name


def withdraw() -> None:
    """Take the announcement of this process back. Called by the Snakefile as a run ends."""
    for run in _announced():
        if run.pid == os.getpid() and run.alive():
            remove(run.file)


def unlock() -> list[str]:
    """Take away the locks of dead runs and end their jobs; a live run's are never touched.

    Returns what was done, one sentence a run. Raises `BadInput` if the folder is locked by a run
    that lives, or of which nobody here can tell whether it does.
    """
    if not _locks() and not _announced():
        return []
    with _alone():
        locks, runs = _locks(), _announced()
        if locks:
            _refuse_if_held(locks, runs)
        told = [_clear(run) for run in runs if run.alive() is False]
        for lock in locks:
            remove(lock)
        return told


def _refuse_if_held(locks: list[Path], runs: list[Run]) -> None:
    for run in runs:
        alive = run.alive()
        if alive:
            raise BadInput(
                f"Snakemake is at work in this folder since {run.started} as process {run.pid}; "
                f"wait until it has ended, or stop it with `kill -INT {run.pid}`."
            )
        if alive is None:
            raise BadInput(
                f"Snakemake was started in this folder on {run.host}, process {run.pid}, at "
                f"{run.started}, and whether it is still at work cannot be seen from here; if you "
                f"know that it is not, delete {run.file} and run `snakemake --unlock`."
            )
    # A run takes two locks and announces itself just after: more or younger ones are not its own.
    newest = max(lock.lstat().st_mtime_ns for lock in locks)
    announced = max((run.file.lstat().st_mtime_ns for run in runs), default=0)
    if len(locks) > 2 * len(runs) or newest > announced:
        raise BadInput(
            "The folder is locked by a Snakemake run that has not said who it is; if it is only "
            "just starting, wait for it, and if you know that none is at work here or on another "
            "computer, run `snakemake --unlock`."
        )


def _clear(run: Run) -> str:
    """End the jobs that a dead run left at work, and forget the run."""
    ended = _end(run.name)
    remove(run.file)
    jobs = f", ended {ended} processes of its jobs that were still at work" if ended else ""
    return (
        f"The Snakemake run of {run.started} (process {run.pid}) is dead: removed its lock{jobs}."
    )


def _end(name: str) -> int:
    """Ask the marked processes to stop, give them time to save, then stop them; how many."""
    found = _marked(name)
    _signal(found, signal.SIGTERM)
    patience = time.monotonic() + GRACE
    while (left := _marked(name)) and time.monotonic() < patience:
        time.sleep(0.1)
    _signal(left, signal.SIGKILL)
    return len(found)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _marked(name: str) -> list[int]:
    """Processes of this computer whose environment names the run."""
    mark = f"{MARK}={name}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone by now
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _announced() -> list[Run]:
    runs = (_read(path) for path in sorted(RUNS.glob("*.json")))
    return [run for run in runs if run]


def _read(path: Path) -> Run | None:
    """The run of an announcement; of a damaged one what its name tells.

    None where it was withdrawn by now or its name is no run's.
    """
    if not os.path.lexists(path):
        return None
    with contextlib.suppress(OSError, ValueError, TypeError):
        if why_no_file(path) is None:
            run = Run(**json.loads(path.read_text(encoding="utf-8")))
            if run.file == path and isinstance(run.pid, int):
                return run
    host, _, rest = path.stem.rpartition("-")
    host, _, pid = host.rpartition("-")
    if not host or not pid.isdigit():
        return None
    with contextlib.suppress(FileNotFoundError):
        started = datetime.fromtimestamp(path.lstat().st_mtime).astimezone()
        return Run(host, _system(), _boot(), int(pid), rest, started.isoformat(" ", "seconds"))
    return None


def _locks() -> list[Path]:
    return sorted(LOCKS.glob("*.lock"))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Only one process looks and unlocks: the next would see the lock that follows."""
    path = STATE / "unlock"
    if path.is_dir():
        remove(path)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _birth(pid: int) -> str | None:
    """When a process was born, in ticks since the boot.

    None if it is gone or killed already; "" if it is there and the system tells no more.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if _exists(pid) else None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _system() -> str:
    """The computer's id and, within it, the name space of process ids (one per container)."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{_line('/etc/machine-id')} {space}"


def _boot() -> str:
    return _line("/proc/sys/kernel/random/boot_id")


def _line(path: str) -> str:
    """A file's one line, or nothing where the system has no such file."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""
