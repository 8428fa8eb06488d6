"""The most memory that a piece of work takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from advdenoise.stages import memory

MEGABYTE = 1 << 20
CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak")


# A process of its own, as a job is one: the heap of a long run of tests has holes of any size that
# are filled before anything is mapped and stay resident when they are free again.
WORK = """
import json
import torch
from advdenoise.stages import memory

def take(*sizes):
    "Take so many megabytes, one after the other, and give them back."
    for size in sizes:
        torch.ones(size << 20, dtype=torch.uint8)

def peak(*sizes):
    return memory.peak_bytes(lambda: take(*sizes), torch.device("cpu"))

# The second of equal ones finds what the first has freed.
found = [peak(*sizes) for sizes in ((64,), (64, 16), (16, 64), (30, 64)) for _ in range(2)]
held = torch.ones(64 << 20, dtype=torch.uint8)
print(json.dumps({"one_after_the_other": found, "beside_what_is_held": peak(8)}))
"""


@pytest.fixture(scope="module")
def peaks() -> dict:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@linux
def test_the_peak_is_the_largest_and_not_the_sum(peaks):
    result = peaks["one_after_the_other"]
    assert len(result) == 8 and all(60 * MEGABYTE < peak < 80 * MEGABYTE for peak in result)


@linux
def test_what_is_held_before_does_not_count(peaks):
    assert 4 * MEGABYTE < peaks["beside_what_is_held"] < 24 * MEGABYTE


def test_where_no_one_tells_the_work_is_done_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROCESS", Path(tmp_path, "absent"))
    done = []
    assert memory.peak_bytes(lambda: done.append(1), CPU) is None
    assert done == [1]
