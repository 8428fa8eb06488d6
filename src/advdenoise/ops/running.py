"""Snakemake runs in this folder: which of them are alive, and unlocking after dead ones.

When Snakemake is killed, its lock stays, its jobs go on, and the lock does not tell whose it is. So
every run writes a record of itself beside the lock and marks its jobs, and `unlock` removes what
dead runs left. Paths are relative to the working folder.
"""

import contextlib
import json
import math
import os
import re
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from advdenoise.errors import BadInput
from advdenoise.ops import locks
from advdenoise.ops.files import remove, why_not_readable

STATE = Path(".snakemake")
LOCKS = STATE / "locks"
RUNS = STATE / "running"
RUN_VARIABLE = "ADVDENOISE_RUN"  # names the run in the environment of its jobs
GRACE_SECONDS = 30.0  # for a job to save its state
_SAME_SECONDS = 2.0  # by which two readings of one process's creation time may differ


class Run(NamedTuple):
    """A Snakemake process.

    `system` identifies computer and container, `boot` the computer's last start, and `created` the
    process, in seconds from that start to its own.
    """

    host: str
    system: str
    boot: str
    pid: int
    created: float
    started: str

    @property
    def name(self) -> str:
        return f"{self.host}-{self.pid}-{self.created:.2f}"

    @property
    def file(self) -> Path:
        return RUNS / f"{self.name}.json"

    def alive(self) -> bool | None:
        """Whether the process is running; None if this computer cannot know."""
        if (self.host, self.system) != (socket.gethostname(), _system()):
            return None
        if self.boot != _boot():
            return False
        created = _created(self.pid)
        return created is not None and not abs(created - self.created) > _SAME_SECONDS  # or NaN


def announce() -> None:
    """Record that this process runs the workflow here. Called by the Snakefile as a run starts."""
    pid = os.getpid()
    created = _created(pid)
    assert created is not None
    run = Run(socket.gethostname(), _system(), _boot(), pid, created, _date(time.time()))
    if RUNS.exists() and not RUNS.is_dir():
        remove(RUNS)
    RUNS.mkdir(parents=True, exist_ok=True)
    draft = run.file.with_suffix(".draft")
    draft.write_text(json.dumps(run._asdict()), encoding="utf-8")
    draft.replace(run.file)
    os.environ[RUN_VARIABLE] = run.name


def withdraw() -> None:
    """Remove the record of this process. Called by the Snakefile as a run ends."""
    for run in _recorded():
        if run.pid == os.getpid() and run.alive():
            remove(run.file)


def unlock() -> list[str]:
    """Remove the locks of dead runs and end their jobs; those of live runs are left alone.

    Returns:
        what was done, one sentence per run.

    Raises:
        BadInput: the folder is locked by a live run, or by one of which this is not known.
    """
    if not _locks() and not _recorded():
        return []
    mutex = STATE / "unlock"
    if mutex.is_dir():
        remove(mutex)
    lock = locks.acquire(mutex)  # a second process would remove the lock of the run that follows
    try:
        run_locks, runs = _locks(), _recorded()
        if run_locks:
            _check_dead(run_locks, runs)
        sentences = [_clear(run) for run in runs if run.alive() is False]
        for path in run_locks:
            remove(path)
        return sentences
    finally:
        if lock:
            lock.release()


def _check_dead(run_locks: list[Path], runs: list[Run]) -> None:
    for run in runs:
        alive = run.alive()
        if alive:
            raise BadInput(
                f"Snakemake has been running in this folder since {run.started} as process "
                f"{run.pid}; wait until it has ended, or stop it with `kill -INT {run.pid}`."
            )
        if alive is None:
            raise BadInput(
                f"Snakemake was started in this folder on {run.host}, process {run.pid}, at "
                f"{run.started}, and this computer cannot tell whether it is still running; if you "
                f"know that it is not, delete {run.file} and run `snakemake --unlock`."
            )
    # A run takes two locks and writes its record just after: further or later ones are another's.
    newest = max(path.lstat().st_mtime_ns for path in run_locks)
    recorded = max((run.file.lstat().st_mtime_ns for run in runs), default=0)
    if len(run_locks) > 2 * len(runs) or newest > recorded:
        raise BadInput(
            "The folder is locked by a Snakemake run that has left no record; if it is just "
            "starting, wait for it, and if you know that none is running here or on another "
            "computer, run `snakemake --unlock`."
        )


def _clear(run: Run) -> str:
    """End the running jobs of a dead run and remove its record."""
    ended = _end_jobs(run.name)
    remove(run.file)
    jobs = f", ended {ended} processes of its jobs that were still running" if ended else ""
    return (
        f"The Snakemake run of {run.started} (process {run.pid}) is dead: removed its lock{jobs}."
    )


def _end_jobs(name: str) -> int:
    """Terminate the processes of a run's jobs, and kill those left after the grace period."""
    jobs = _jobs(name)
    for job in jobs:
        with contextlib.suppress(psutil.Error):
            job.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := _jobs(name)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for job in left:
        with contextlib.suppress(psutil.Error):
            job.kill()
    return len(jobs)


def _jobs(name: str) -> list[psutil.Process]:
    """The processes of this computer whose environment names the run."""
    processes = psutil.process_iter(["environ"])  # None for another user's process
    return [p for p in processes if (p.info["environ"] or {}).get(RUN_VARIABLE) == name]


def _recorded() -> list[Run]:
    runs = (_read(path) for path in sorted(RUNS.glob("*.json")))
    return [run for run in runs if run]


def _read(path: Path) -> Run | None:
    """The run of a record; if that is damaged, what its file name says of a run on this computer.

    None if the record has been removed meanwhile, or its name is not a run's.
    """
    with contextlib.suppress(OSError, ValueError, TypeError):
        if why_not_readable(path) is None:
            run = Run(**json.loads(path.read_text(encoding="utf-8")))
            if run.file == path and isinstance(run.pid, int):
                return run
    name = re.fullmatch(r"(.+)-(\d+)-(\d+\.\d\d)", path.stem)
    if name and os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):
            started = _date(path.lstat().st_mtime)
            return Run(name[1], _system(), _boot(), int(name[2]), float(name[3]), started)
    return None


def _locks() -> list[Path]:
    return sorted(LOCKS.glob("*.lock"))


def _created(pid: int) -> float | None:
    """Seconds from the computer's start to a process's own; setting the clock does not change them.

    None if the process has ended or waits to be reaped, NaN if the system hides it.
    """
    try:
        process = psutil.Process(pid)
        ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return None if ended else process.create_time() - psutil.boot_time()
    except psutil.Error:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return math.nan


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _system() -> str:
    """The computer's id and the namespace of its process ids, of which each container has one."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{_line('/etc/machine-id')} {namespace}"


def _boot() -> str:
    return _line("/proc/sys/kernel/random/boot_id")


def _line(path: str) -> str:
    """A file's one line, or "" if the system has no such file."""
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""
