"""The most memory that a piece of work takes."""

import sys
from pathlib import Path

import pytest
import torch

from scripts.advdenoise.stages import memory

MEGABYTE = 1 << 20
CPU = torch.device("cpu")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak")


def take(*sizes: int):
    """Take so many megabytes, one after the other, and give them back."""
    for size in sizes:
        torch.ones(size * MEGABYTE, dtype=torch.uint8)


@linux
@pytest.mark.parametrize("sizes", [(64,), (64, 16), (16, 64), (30, 64)])
def test_the_peak_is_the_largest_and_not_the_sum(sizes):
    for _ in range(2):  # the second finds what the first has freed
        peak = memory.peak_bytes(lambda: take(*sizes), CPU)
        assert 60 * MEGABYTE < peak < 80 * MEGABYTE


@linux
def test_what_is_held_before_does_not_count():
    held = torch.ones(64 * MEGABYTE, dtype=torch.uint8)
    assert memory.peak_bytes(lambda: take(8), CPU) < 24 * MEGABYTE
    assert held.all()


def test_where_no_one_tells_the_work_is_done_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROCESS", Path(tmp_path, "absent"))
    done = []
    assert memory.peak_bytes(lambda: done.append(1), CPU) is None
    assert done == [1]
