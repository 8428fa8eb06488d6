"""The device of a job: one process per GPU, with real locks of real processes."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from advdenoise.ops import devices, locks

ROOT = Path(__file__).parents[2]

# A job that reserves a device until its standard input ends. torch, which takes seconds to import,
# is replaced by a stand-in with these GPUs.
JOB = """
import sys
from pathlib import Path
from types import SimpleNamespace

folder, *uuids = sys.argv[1:]
set_devices = []
cuda = SimpleNamespace(
    is_available=lambda: True,
    device_count=lambda: len(uuids),
    get_device_properties=lambda index: SimpleNamespace(uuid=uuids[index]),
    set_device=set_devices.append,
)
sys.modules["torch"] = SimpleNamespace(cuda=cuda, device=lambda *place: place)

from advdenoise.ops import devices

devices.LOCKS, devices._POLL_SECONDS = Path(folder), 0.01
kind, index = devices.device()
assert devices.device() == (kind, index) and set_devices == [index]
print(kind, index, flush=True)
sys.stdin.read()
"""


class Job:
    """A process that reserves the first free one of these GPUs."""

    def __init__(self, folder: Path, *uuids: str):
        pipe = subprocess.PIPE
        command = [sys.executable, "-u", "-c", JOB, str(folder), *uuids]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def device(self) -> str:
        line = self.process.stdout.readline().strip()
        assert line, self.process.stderr.read()
        return line

    def end(self) -> str:
        """Its remaining messages."""
        return self.process.communicate()[1]

    def message(self) -> str:
        return self.process.stderr.readline()


@pytest.fixture
def start(tmp_path):
    jobs = []

    def start(*uuids) -> Job:
        jobs.append(Job(tmp_path, *uuids))
        return jobs[-1]

    yield start
    for job in jobs:
        job.process.kill()
        job.process.communicate()


def test_a_second_job_waits_for_the_gpu_and_gets_it_when_the_first_is_killed(start, tmp_path):
    first = start("a")
    assert first.device() == "cuda 0"
    second = start("a")
    assert second.message() == (
        f"all GPUs are busy, waiting for a free one: {tmp_path}/advdenoise-gpu-a.lock by "
        f"process {locks.holder(tmp_path / 'advdenoise-gpu-a.lock')}\n"
    )
    assert locks.holder(tmp_path / "advdenoise-gpu-a.lock").startswith(f"{first.process.pid} on ")
    first.process.kill()
    assert second.device() == "cuda 0"
    out, err = second.process.communicate()
    assert (second.process.returncode, out, err) == (0, "", "")  # warned once


def test_two_gpus_serve_two_jobs_and_a_third_waits(start):
    one = start("a", "b")
    assert one.device() == "cuda 0"
    two = start("a", "b")
    assert two.device() == "cuda 1"
    third = start("b", "a")  # numbers them differently
    message = third.message()
    assert (
        f"process {one.process.pid} on " in message and f"process {two.process.pid} on " in message
    )
    two.process.communicate()  # ends by itself
    assert third.device() == "cuda 0"
    one.process.kill()
    assert start("b", "a").device() == "cuda 1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_waiting_job_ends_on_a_signal(start, tmp_path, number):
    lock = locks.acquire(tmp_path / "advdenoise-gpu-a.lock")
    job = start("a")
    assert f"process {os.getpid()} on " in job.message()
    job.process.send_signal(number)
    assert f"Preempted: {number.name} received while waiting" in job.end()
    lock.release()


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Replaces the GPUs that torch reports in this process."""

    def put(*properties) -> None:
        monkeypatch.setattr(devices, "LOCKS", tmp_path)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(properties))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(properties))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: properties[i])
        monkeypatch.setattr(torch.cuda, "set_device", lambda i: None)

    devices.device.cache_clear()
    yield put
    devices.device.cache_clear()


def test_without_a_uuid_a_gpu_is_locked_by_its_number(fake, tmp_path):
    fake(SimpleNamespace())
    assert devices.device() == torch.device("cuda", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["advdenoise-gpu-0.lock"]


def test_a_folder_without_locks_is_tolerated_with_a_warning(fake, monkeypatch, tmp_path, caplog):
    fake(SimpleNamespace(uuid="a"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(devices, "LOCKS", tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert devices.device() == torch.device("cuda", 0)
    assert "make sure that no other job uses this GPU" in caplog.text


@pytest.mark.parametrize("value", [None, "", " ", "-1", "NoDevFiles"])
def test_without_visible_gpus_the_cpu_is_used_silently(fake, monkeypatch, caplog, value):
    fake()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert devices.visible_gpus() is None
    assert devices.device() == torch.device("cpu") and not caplog.text


def test_a_visible_gpu_that_is_missing_causes_one_warning(fake, monkeypatch, caplog):
    fake()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for _ in range(2):
        assert devices.device() == torch.device("cpu")
    (record,) = caplog.records
    assert record.getMessage() == (
        "CUDA_VISIBLE_DEVICES=0 names a GPU but torch finds none: running on the CPU"
    )
