"""Seconds of a piece of work, for the benchmarks that compare jobs with bare passes."""

import time
from collections.abc import Callable


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time, until what a GPU was asked for is done."""
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu
