"""Jobs that are stopped, killed or run twice: real processes, synchronised by their output."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from advdenoise.errors import EXIT_PREEMPTED
from advdenoise.ops.resume import state_lock
from tests.training import worker

ROOT = Path(__file__).parents[2]


class Job:
    """A training in a process of its own."""

    def __init__(self, digits: Path, state: Path, weights: Path, stop_at: int | None = None):
        command = [
            sys.executable,
            "-m",
            "tests.training.worker",
            *map(str, (digits, state, weights)),
        ]
        command += [] if stop_at is None else ["--stop-at", str(stop_at)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def wait_at(self, iteration: int) -> None:
        for line in self.process.stdout:
            if line == f"at {iteration}\n":
                return
        raise AssertionError(self.process.stderr.read())

    def wait_for_log(self, words: str) -> None:
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"{words!r} was never logged")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    worker.write_digits(path)
    return path


@pytest.fixture
def start(digits):
    jobs = []

    def start(*arguments, **settings) -> Job:
        jobs.append(Job(digits, *arguments, **settings))
        return jobs[-1]

    yield start
    for job in jobs:
        job.process.kill()
        job.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory) -> dict:
    return train_here(digits, tmp_path_factory.mktemp("undisturbed"))


def train_here(digits: Path, state: Path) -> dict:
    """The weights and history of a job, computed in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = worker.network()
    history = worker.train(model, digits, state)
    torch.set_num_threads(threads)
    return {"weights": model.state_dict(), "history": history}


def assert_same(result: dict, expected: dict) -> None:
    for name, value in expected["weights"].items():
        assert torch.equal(result["weights"][name], value), name
    for row, other in zip(result["history"], expected["history"], strict=True):
        assert row == {**other, "epoch_seconds": row["epoch_seconds"]}


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_sigterm_finishes_the_batch_and_a_rerun_is_bit_equal(tmp_path, start, digits, undisturbed):
    job = start(tmp_path / "state", tmp_path / "weights.pt", stop_at=5)
    job.wait_at(5)
    job.process.send_signal(signal.SIGTERM)
    code, out, err = job.end()  # closes its standard input, which lets the batch continue
    assert code == EXIT_PREEMPTED
    assert out == ""  # no further batch
    assert "SIGTERM received; the state after epoch 1, batch 2 is saved" in err
    assert_same(train_here(digits, tmp_path / "state"), undisturbed)


def test_a_second_job_waits_for_an_orphan_and_continues_after_it(tmp_path, start, undisturbed):
    state, weights = tmp_path / "state", tmp_path / "weights.pt"
    orphan = start(state, weights, stop_at=5)
    orphan.wait_at(5)
    second = start(state, weights)
    second.wait_for_log(f"is locked by process {orphan.process.pid} on ")
    orphan.process.kill()  # kill -9
    code, out, err = second.end()
    assert code == 0, err
    assert out.splitlines()[0] == "at 4"  # the last whole epoch is kept
    assert_same(load(weights), undisturbed)
    assert not state.exists()


@pytest.mark.slow
def test_a_second_job_waits_until_the_first_is_done(tmp_path, start, undisturbed):
    state = tmp_path / "state"
    first = start(state, tmp_path / "first.pt", stop_at=11)
    first.wait_at(11)
    second = start(state, tmp_path / "second.pt")
    second.wait_for_log("waiting for it to end")
    for job in (first, second):
        code, _, err = job.end()
        assert code == 0, err
    assert_same(load(tmp_path / "first.pt"), undisturbed)
    assert_same(load(tmp_path / "second.pt"), undisturbed)
    assert not state.exists()


@pytest.mark.slow
def test_a_waiting_job_can_be_stopped(tmp_path, start):
    with state_lock(tmp_path):
        waiting = start(tmp_path, tmp_path / "weights.pt")
        waiting.wait_for_log(f"is locked by process {os.getpid()}")
        waiting.process.terminate()
        assert waiting.end()[0] == -signal.SIGTERM
