"""Command lines: options from the job's own signature, the log, exit codes, one sentence."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.errors import EXIT_PREEMPTED
from advdenoise.stages.command import _parser

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.stem
    for path in (REPOSITORY / "scripts").glob("*.py")
    if "stages.command" in path.read_text(encoding="utf-8")
)

JOB = '''
import logging, os, subprocess, sys
from pathlib import Path
from advdenoise.errors import BadInput, DamagedFile, Preempted
from advdenoise.stages.command import main

def run(settings: dict, images: Path, sets: list[Path], more: list[Path] | None = None,
        output: Path | None = None, root: str = "none", threads: int = 3) -> None:
    """A job for tests."""
    print("given", settings, images, sets, more, output, root, threads)
    print("threads", os.environ["OMP_NUM_THREADS"])
    print("to the error stream", file=sys.stderr)
    subprocess.run(["echo", "from below Python"], check=True)
    if "say" in settings:
        logging.getLogger("advdenoise.x").info("of ours")
        logging.getLogger("other").info("of others")
    errors = {"bad": BadInput, "damaged": DamagedFile, "stop": Preempted, "bug": ZeroDivisionError,
              "memory": MemoryError, "interrupt": KeyboardInterrupt}
    if settings.get("end") == "full":
        raise OSError(28, "No space left on device", "results/a.h5")
    if settings.get("end") in errors:
        raise errors[settings["end"]]("a.b: what is wrong; what to do")

main(run)
'''


@pytest.fixture
def job(tmp_path):
    """Runs the job above by its command line."""
    script = tmp_path / "job.py"
    script.write_text(JOB)

    def run(settings, *options):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "PYTHONUNBUFFERED": ""}
        command = [sys.executable, script, "--settings", json.dumps(settings), *map(str, options)]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=60, cwd=tmp_path
        )

    return run


def test_options_follow_the_signature(job):
    done = job({"a": [1, None]}, "--images", "i.h5", "--sets", "x.h5", "y.h5", "--output", "o")
    assert done.returncode == 0
    words = "{'a': [1, None]} i.h5 [PosixPath('x.h5'), PosixPath('y.h5')] None o none 3"
    assert f"given {words}\n" in done.stdout
    done = job({}, "--images", "i", "--sets", "--more", "z", "--root", "r", "--threads", "2")
    assert "given {} i [] [PosixPath('z')] None r 2\nthreads 2\n" in done.stdout
    assert "given {} i [] None None none 3\n" in job({}, "--images", "i").stdout


def test_what_is_missing_or_unknown_is_said(job):
    done = job({}, "--sets", "x.h5")
    assert done.returncode == 2 and "--images" in done.stderr
    done = job({}, "--images", "i", "--sets", "--imags", "i")
    assert done.returncode == 2 and "--imags" in done.stderr


def test_the_log_takes_all_that_is_printed(job, tmp_path):
    log = tmp_path / "logs" / "deep" / "job.log"
    done = job({}, "--images", "i", "--sets", "--log", log)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = log.read_text().splitlines()
    assert lines[0].startswith("given {}")
    assert lines[1:] == ["threads 3", "to the error stream", "from below Python"]
    job({}, "--images", "again", "--sets", "--log", log)
    assert log.read_text().count("given") == 1


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"SLURM_JOB_ID": "7"}, f"SLURM job 7 on {socket.gethostname()}: no GPU"),
        (
            {
                "SLURM_JOB_ID": "7",
                "SLURMD_NODENAME": "n1",
                "SLURM_JOB_PARTITION": "gpus",
                "CUDA_VISIBLE_DEVICES": "0,1",
            },
            "SLURM job 7 on n1, partition gpus: CUDA_VISIBLE_DEVICES=0,1",
        ),
    ],
)
def test_under_slurm_the_log_starts_with_job_node_and_gpus(
    job, tmp_path, monkeypatch, variables, line
):
    for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_JOB_PARTITION", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "job.log"
    done = job({}, "--images", "i", "--sets", "--log", log)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = log.read_text().splitlines()
    assert lines[0] == line or line is None
    assert lines[line is not None].startswith("given {}")


def test_what_the_library_logs_is_shown_and_what_others_chat_is_not(job, tmp_path):
    log = tmp_path / "job.log"
    job({"say": 1}, "--images", "i", "--sets", "--log", log)
    assert log.read_text().splitlines()[-1] == "of ours"


@pytest.mark.parametrize("end", ["bad", "damaged"])
def test_bad_input_ends_in_one_sentence(job, tmp_path, end):
    log = tmp_path / "job.log"
    done = job({"end": end}, "--images", "i", "--sets", "--log", log)
    assert done.returncode == 1
    assert done.stderr == f"a.b: what is wrong; what to do (log: {log})\n"
    assert log.read_text().splitlines()[-1] == "a.b: what is wrong; what to do"
    assert "Traceback" not in log.read_text()
    without = job({"end": end}, "--images", "i", "--sets")
    assert without.stderr == "to the error stream\na.b: what is wrong; what to do\n"


def test_a_job_that_was_asked_to_stop_has_a_code_of_its_own(job, tmp_path):
    done = job({"end": "stop"}, "--images", "i", "--sets", "--log", tmp_path / "log")
    assert done.returncode == EXIT_PREEMPTED
    assert done.stderr.startswith("Stopped as asked: ") and done.stderr.count("\n") == 1


def test_a_bug_leaves_its_traceback_in_the_log(job, tmp_path):
    log = tmp_path / "log"
    done = job({"end": "bug"}, "--images", "i", "--sets", "--log", log)
    assert done.returncode == 1
    assert "Traceback" in log.read_text() and "line" in log.read_text()
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("ZeroDivisionError: ")
    assert str(log) in done.stderr


def test_what_the_system_refuses_ends_in_one_sentence(job, tmp_path):
    log = tmp_path / "log"
    done = job({"end": "full"}, "--images", "i", "--sets", "--log", log)
    assert done.returncode == 1
    assert done.stderr.startswith("results/a.h5: no space left on its file system, ")
    assert done.stderr.endswith(f" what is done is kept (log: {log})\n")
    assert log.read_text().splitlines()[-1] + f" (log: {log})\n" == done.stderr
    assert "Traceback" not in log.read_text()


def test_an_interrupted_job_leaves_no_traceback(job, tmp_path):
    log = tmp_path / "log"
    done = job({"end": "interrupt"}, "--images", "i", "--sets", "--log", log)
    assert (done.returncode, done.stderr) == (130, "")
    assert log.read_text().splitlines()[-1] == "Interrupted"
    assert "Traceback" not in log.read_text()


def test_lack_of_memory_names_the_rule_and_the_remedy(job, tmp_path):
    log = tmp_path / "log"
    done = job({"end": "memory", "rule": "attack"}, "--images", "i", "--sets", "--log", log)
    assert done.returncode == 1
    assert done.stderr == (
        "attack: not enough memory (a.b: what is wrong; what to do); give it more with "
        f"--set-resources attack:mem_mb=MEGABYTES (log: {log})\n"
    )


def test_a_log_that_cannot_be_opened_is_told(job, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for log, message in (
        ("folder", "Is a directory; delete it\n"),
        ("n" * 300, "name is too long"),
    ):
        done = job({}, "--images", "i", "--sets", "--log", tmp_path / log)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{tmp_path / log}: ") and message in done.stderr
        assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_streams_that_are_closed_are_no_files_places(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    command = '"$0" job.py --settings {} --images i --sets --log log >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        ["bash", "-c", command, sys.executable], cwd=tmp_path, env=environment, timeout=60
    )
    assert done.returncode == 0
    assert (tmp_path / "log").read_text().splitlines()[1:] == [
        *("threads 3", "to the error stream", "from below Python")
    ]


@pytest.mark.parametrize("log", ["deep/log", None])
def test_an_import_without_the_memory_is_told_in_terminal_and_log(tmp_path, log):
    script = tmp_path / "attack.py"
    script.write_text(
        "from advdenoise.stages.command import importing\n"
        "with importing():\n"
        "    raise ImportError('libtorch.so: failed to map segment from shared object')\n"
    )
    options = ["--output", "o", *(["--log", log] if log else [])]
    done = subprocess.run(
        [sys.executable, script, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "attack: not enough memory (libtorch.so: failed to map segment from shared object); give "
        "it more with --set-resources attack:mem_mb=MEGABYTES\n"
    )
    assert not log or (tmp_path / log).read_text() == done.stderr


def test_torch_that_is_loaded_already_gets_its_threads(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "import torch\n"
        "from advdenoise.stages.command import main\n"
        "def run(settings: dict):\n    print(torch.get_num_threads())\n"
        "main(run)\n"
    )
    done = subprocess.run(
        [sys.executable, script, "--settings", "{}", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "2"},
    )
    assert done.stdout == "1\n"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_option_that_a_rule_gives_is_one_of_its_script(name):
    source = (REPOSITORY / "scripts" / f"{name}.py").read_text(encoding="utf-8")
    scope: dict = {"__name__": "test"}
    exec(compile(source, name, "exec"), scope)
    run = next(scope[x] for x in ("run", "train_classifier", "train_denoiser") if x in scope)
    known = {option for action in _parser(run)._actions for option in action.option_strings}
    rule = (REPOSITORY / "rules" / f"{name}.smk").read_text(encoding="utf-8")
    shell = rule[rule.index("shell:") :]
    words = {word for word in shell.replace('"', " ").split() if word.startswith("--")}
    assert words <= known
    assert run.__doc__
