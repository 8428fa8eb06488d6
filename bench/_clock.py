"""Seconds of a piece of work, for the benchmarks that compare jobs with bare passes."""

import contextlib
import ctypes
import time
from collections.abc import Callable

TRIM, MMAP = -1, -3  # of mallopt(3)


def as_in_jobs() -> None:
    """Let freed memory stay with the process (on Linux), as the workflow's jobs have it.

    Pages that are given back and asked for again would be charged to one way or another by chance.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # glibc alone has it
        for threshold in (TRIM, MMAP):
            ctypes.CDLL(None).mallopt(threshold, 1 << 30)


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time, until what a GPU was asked for is done."""
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu
