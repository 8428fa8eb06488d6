"""The folder of an unfinished job's state: its place, its lock, and its removal."""

import os
import signal
from pathlib import Path

import pytest

from advdenoise.ops import resume


@pytest.mark.parametrize("output", ["results/tiny/a.h5", "/somewhere/else/a.h5"])
def test_the_state_is_below_the_resume_folder(output, tmp_path):
    folder, output = tmp_path / "resume", Path(output)
    state = resume.state_folder(folder, output)
    assert folder in state.parents and state != output
    assert resume.state_folder(folder, output.with_name("b.h5")) != state


def test_a_state_that_another_job_uses_is_not_removed(tmp_path):
    folder = tmp_path / "state"
    with resume.state_lock(folder):
        resume.remove_state(folder)
        assert folder.exists()
    resume.remove_state(folder)
    assert not folder.exists()
    resume.remove_state(folder)
    assert not folder.exists()


def test_states_of_other_digests_are_removed(tmp_path):
    for digest in ("mine", "old", "older"):
        (tmp_path / digest).mkdir()
        (tmp_path / digest / "state.pt").touch()
    (tmp_path / "lock").touch()
    assert resume.prepare_state(tmp_path, "mine") == tmp_path / "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "lock"}
    assert (tmp_path / "mine" / "state.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_recorded_inside_and_acts_as_before_outside(number):
    received = []
    before = signal.signal(number, lambda number, _: received.append(number))
    try:
        with resume.Interruption() as interruption:
            assert interruption.signal is None
            os.kill(os.getpid(), number)
            assert interruption.signal == number.name
        assert not received
        os.kill(os.getpid(), number)
        assert received == [number]
    finally:
        signal.signal(number, before)
