"""Whatever is killed, the same command completes with the tables of an undisturbed run."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advdenoise.io.weights import read_weights
from tests import mini

HOLD = Path(__file__).with_name("hold")
CLASSIFIER = "seed0/digits/classifiers/cnn.safetensors"
DENOISER = "seed0/digits/denoisers/dae.safetensors"
QUICK = ["make", "quick", "CORES=2"]
ATTACKED = "seed0/digits/adversarial/fgsm@cnn/train.h5"


class Held:
    """A command that holds where it puts a certain file into place."""

    def __init__(self, command: list[str], folder: Path, place: str):
        self.file = folder / "held"
        self.file.unlink(missing_ok=True)
        hold = {
            "PYTHONPATH": os.pathsep.join([str(HOLD), str(folder / "src")]),
            "ADVDENOISE_TEST_HOLD": place,
            "ADVDENOISE_TEST_HELD": str(self.file),
        }
        self.log = folder / "output.txt"
        with self.log.open("w") as output:  # no pipe: an orphan would keep it open
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=mini.environment(**hold),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pid(self) -> int:
        """The process that holds, once it does."""
        deadline = time.monotonic() + mini.PATIENCE
        while not self.file.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return int(self.file.read_text())

    def kill(self, pid: int) -> int:
        """Kill the process of that number; the exit status of the command."""
        os.kill(pid, signal.SIGKILL)
        return self.process.wait(mini.PATIENCE)


@pytest.fixture
def hold(folder):
    """Start commands that hold in the folder; none of their processes outlives the test."""
    started = []

    def start(command, place):
        started.append(Held(command, folder, place))
        return started[-1]

    yield start
    for held in started:
        try:
            os.killpg(held.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        held.process.wait()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return mini.finished(tmp_path_factory.getbasetemp())


@pytest.fixture
def folder(tmp_path) -> Path:
    """The code, and an environment that `make quick` takes for installed."""
    folder = mini.copy_code(tmp_path / "code")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in (("python", ""), ("snakemake", "-m snakemake")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    for stamp in ("uv", "run"):
        (folder / ".venv" / f"{stamp}.stamp").touch()
    return folder


def make_quick(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        QUICK,
        cwd=folder,
        env=mini.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=mini.PATIENCE,
    )


def tables(folder: Path) -> dict[str, list[dict]]:
    """All tables, line by line, without the columns of seconds."""
    result = {}
    for path in sorted((folder / mini.ROOT / "tables").rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            result[path.stem] = [
                {name: value for name, value in line.items() if not name.endswith("_seconds")}
                for line in csv.DictReader(file)
            ]
    return result


def state(folder: Path, weights: str) -> list[Path]:
    """What is kept of a training that has not ended."""
    return list((folder / mini.ROOT / "resume" / mini.ROOT / weights).glob("*/state.pt"))


def test_jobs_and_snakemake_killed_and_run_again(folder, hold, finished):
    # A training job, once its first epoch is saved.
    run = hold(QUICK, f"after {CLASSIFIER}/.*/state.pt")
    assert run.kill(run.pid()) != 0
    assert "Error in rule train_classifier" in run.log.read_text()
    assert len(state(folder, CLASSIFIER)) == 1
    assert not (folder / mini.ROOT / CLASSIFIER).exists()

    # An attack job, with its file written and not yet in place.
    run = hold(QUICK, f"before {ATTACKED}$")
    assert run.kill(run.pid()) != 0
    assert "Error in rule attack" in run.log.read_text()
    log = folder / "logs/mini/train_classifier/0/digits/cnn.log"
    assert "resumed after epoch 1, batch 0" in log.read_text()
    assert not state(folder, CLASSIFIER)
    assert not (folder / mini.ROOT / ATTACKED).exists()

    # Snakemake, while a denoiser is trained; the job stays behind.
    run = hold(QUICK, f"after {DENOISER}/.*/state.pt")
    job = run.pid()
    (announced,) = (folder / ".snakemake" / "running").glob("*.json")
    assert run.kill(json.loads(announced.read_text())["pid"]) != 0
    assert Path(f"/proc/{job}").exists()
    assert list((folder / ".snakemake" / "locks").iterdir())

    last = make_quick(folder)
    assert last.returncode == 0, last.stdout
    assert "is dead: removed its lock, ended" in last.stdout
    assert not Path(f"/proc/{job}").exists()
    log = folder / "logs/mini/train_denoiser/0/digits/dae.log"
    assert "resumed after epoch 1, batch 0" in log.read_text()

    assert tables(folder) == tables(finished)
    assert len(tables(folder)) == 5
    assert not list((folder / "results").rglob("*.part"))
    assert not list((folder / ".snakemake" / "locks").iterdir())
    assert not (folder / mini.ROOT / "resume" / mini.ROOT / DENOISER).exists()
    report = folder / mini.ROOT / "report.html"
    results = report.stat().st_mtime_ns

    again = make_quick(folder)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout
    assert report.stat().st_mtime_ns == results


def bits(weights: Path) -> dict[str, bytes]:
    tensors, _ = read_weights(weights)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_a_training_that_is_asked_to_stop_goes_on_from_there(folder, hold, finished):
    shutil.copytree(finished / "results", folder / "results")
    weights = folder / mini.ROOT / CLASSIFIER
    weights.unlink()
    train = mini.commands(folder, str(weights.relative_to(folder)))["classifiers/cnn"]
    train[0] = sys.executable
    log = folder / train[train.index("--log") + 1]
    for epoch, signal_ in enumerate((signal.SIGTERM, signal.SIGUSR1), start=1):
        job = hold(train, f"after {CLASSIFIER}/.*/state.pt")
        assert job.pid() == job.process.pid
        job.process.send_signal(signal_)
        assert job.process.wait(mini.PATIENCE) == 75
        message = f"{signal_.name} received; the state after epoch {epoch}, batch 0 is saved"
        assert message in log.read_text()
        assert message in job.log.read_text()
        assert len(job.log.read_text().splitlines()) == 1
        assert len(state(folder, CLASSIFIER)) == 1
        assert not weights.exists()
    subprocess.run(train, cwd=folder, env=mini.environment(), check=True, timeout=mini.PATIENCE)
    assert "resumed after epoch 2, batch 0" in log.read_text()
    assert not state(folder, CLASSIFIER)
    assert bits(weights) == bits(finished / mini.ROOT / CLASSIFIER)
