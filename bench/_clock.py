"""Seconds of a function, and the settings of threads and memory that benchmarks share."""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from typing import NamedTuple

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)


class Seconds(NamedTuple):
    """Wall and CPU time."""

    wall: float
    cpu: float


def use_threads(count: int) -> None:
    """Let torch use `count` threads, which sleep while they wait.

    The waiting of spinning threads would count as CPU time. Call it before anything imports torch.
    """
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)


def keep_freed_memory() -> None:
    """Keep freed memory in the process (on Linux), as the workflow's jobs do.

    Otherwise pages that are freed and allocated again would be charged to one function by chance.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc has it
        for threshold in (TRIM, MMAP):
            ctypes.CDLL(None).mallopt(threshold, 1 << 30)


def seconds(function: Callable[[], object]) -> Seconds:
    """The time of a call, including that of the GPU work that it starts."""
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)
