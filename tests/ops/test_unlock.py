"""The lock of a live run is never removed, that of a dead run always."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from advdenoise.__main__ import main
from advdenoise.ops import running

REPOSITORY = Path(__file__).parents[2]

# Records itself, starts a marked child as a job, and waits to be killed.
RUN = """
import subprocess, sys
from advdenoise.ops import running
running.announce()
job = subprocess.Popen(["sleep", "600"])
print(job.pid, flush=True)
job.wait()
"""

SNAKEFILE = """
from advdenoise.ops import running
rule all:
    input: expand("{i}.txt", i=range(3))
onstart: running.announce()
onsuccess: running.withdraw()
onerror: running.withdraw()
rule job:
    output: "{i}.txt"
    shell: "echo begun > {output}; test -e go || sleep 600; echo done >> {output}"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    monkeypatch.setenv(running.RUN_VARIABLE, "")
    return tmp_path


@pytest.fixture
def run(folder):
    """A process that has locked the folder and recorded itself, with one job."""
    lock()
    process = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    process.job = int(process.stdout.readline())
    yield process
    for pid in (process.pid, process.job):
        if running._created(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def lock(number=0):
    running.LOCKS.mkdir(parents=True, exist_ok=True)
    for kind in ("input", "output"):
        (running.LOCKS / f"{number}.{kind}.lock").write_text("out.txt\n")


def change(**fields):
    """Alter the one record of the folder."""
    (old,) = running._recorded()
    new = old._replace(**fields)
    old.file.unlink()
    new.file.write_text(json.dumps(new._asdict()))


def refused(capsys):
    locks = running._locks()
    assert main(["unlock"]) == 1
    assert running._locks() == locks != []
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_without_locks_nothing_happens(folder, capsys):
    assert main(["unlock"]) == 0
    assert capsys.readouterr() == ("", "")
    assert list(folder.iterdir()) == []


def test_without_locks_snakemake_is_not_imported(folder):
    code = (
        "import sys; from advdenoise.__main__ import main; assert main(['unlock']) == 0; "
        "assert not {'snakemake', 'torch', 'numpy', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_live_run_is_not_unlocked(run, capsys):
    message = refused(capsys)
    assert f"process {run.pid};" in message
    assert "since 20" in message
    assert running._created(run.job)


def test_a_stopped_run_is_alive(run, capsys):
    run.send_signal(signal.SIGSTOP)
    refused(capsys)


def test_a_process_that_the_system_hides_is_alive(run, capsys, monkeypatch):
    """As /proc mounted with hidepid hides those of other users."""

    def hide(pid):
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", hide)
    refused(capsys)


def test_a_killed_run_is_unlocked_and_its_jobs_end(run, capsys):
    run.kill()
    os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)  # still a zombie
    assert running._created(run.job)
    assert main(["unlock"]) == 0
    message = capsys.readouterr().out
    assert f"process {run.pid}) is dead" in message
    assert "ended 1 processes" in message
    assert running._locks() == list(running.RUNS.iterdir()) == []
    assert not running._created(run.job)
    assert main(["unlock"]) == 0
    assert capsys.readouterr().out == ""


def test_a_job_that_ignores_sigterm_is_killed(folder, monkeypatch):
    monkeypatch.setattr(running, "GRACE_SECONDS", 0.0)
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); "
    job = subprocess.Popen(
        [sys.executable, "-c", code + "signal.pause()"],
        env=os.environ | {running.RUN_VARIABLE: "the run"},
        stdout=subprocess.PIPE,
    )
    job.stdout.readline()
    assert running._end_jobs("the ru") == 0
    assert running._end_jobs("the run") == 1
    assert job.wait(timeout=30) == -signal.SIGKILL
    job.stdout.close()


def test_another_process_with_the_same_number_is_not_the_run(run, capsys):
    change(created=1.0)
    assert main(["unlock"]) == 0
    assert "is dead" in capsys.readouterr().out


def test_a_run_from_before_the_last_start_of_the_computer_is_dead(run, capsys):
    change(boot="another")
    assert main(["unlock"]) == 0


@pytest.mark.parametrize("field", ["host", "system"])
def test_a_run_of_another_computer_or_container_is_left_alone(run, capsys, field):
    change(**{field: "elsewhere"})
    run.kill()
    run.wait()
    assert "cannot tell whether it is still running" in refused(capsys)


def test_a_lock_without_a_record_is_left_alone(folder, capsys):
    lock()
    assert "has left no record" in refused(capsys)


def test_a_lock_younger_than_the_dead_run_is_left_alone(run, capsys):
    run.kill()
    run.wait()
    (path,) = running.RUNS.glob("*.json")
    os.utime(path, ns=(0, running._locks()[0].stat().st_mtime_ns - 1))
    assert "has left no record" in refused(capsys)


def test_a_second_lock_beside_the_dead_run_is_left_alone(run, capsys):
    run.kill()
    run.wait()
    lock(1)
    for path in running._locks():
        os.utime(path, ns=(0, 0))
    assert "has left no record" in refused(capsys)


def test_a_run_removes_its_own_record_only(run):
    running.announce()
    assert len(running._recorded()) == 2
    running.withdraw()
    assert [one.pid for one in running._recorded()] == [run.pid]


def in_place(make):
    def replace(path):
        path.unlink()
        make(path)

    return replace


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "empty": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[1]"),
    "other names": lambda path: path.write_text('{"a": 1}'),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe"),
    "a folder": in_place(lambda path: (path / "more").mkdir(parents=True)),
    "a pipe": in_place(os.mkfifo),
    "a link": in_place(lambda path: path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_file_name_of_a_damaged_record_identifies_the_run(run, capsys, damage):
    (path,) = running.RUNS.glob("*.json")
    DAMAGE[damage](path)
    assert f"process {run.pid};" in refused(capsys)
    run.kill()
    run.wait()
    assert main(["unlock"]) == 0
    assert f"(process {run.pid}) is dead" in capsys.readouterr().out
    assert running._locks() == running._recorded() == []
    assert not os.path.lexists(path)


def test_a_record_that_names_no_run_is_ignored(run, capsys):
    (running.RUNS / "note.json").write_text("[]")
    (running.STATE / "unlock").mkdir()
    run.kill()
    run.wait()
    assert main(["unlock"]) == 0
    assert running._locks() == []


def snakemake(*arguments, **options):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **options)


@pytest.mark.slow
def test_snakemake_killed_and_run_again(folder, capsys):
    (folder / "Snakefile").write_text(SNAKEFILE)
    process = snakemake()
    while len(list(folder.glob("*.txt"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    assert f"process {process.pid};" in refused(capsys)
    process.kill()
    process.wait()
    assert main(["unlock"]) == 0
    # Each of the two jobs is a shell and its sleep.
    assert "ended 4 processes" in capsys.readouterr().out
    (folder / "go").touch()
    assert snakemake("--rerun-incomplete").wait() == 0
    assert {path.read_text() for path in folder.glob("*.txt")} == {"begun\ndone\n"}
    assert running._locks() == running._recorded() == []
