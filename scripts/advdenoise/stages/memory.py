"""How much memory a piece of work takes at most."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # of proc(5): the peak starts again at what is resident now


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Run `call`; the most that was taken beyond what is held before, None where no one tells.

    On a GPU what torch allocated there; else resident memory, as Linux counts it. Memory that was
    used before and is free again counts as taken only where the system could get it back.
    """
    if device.type == "cuda":
        return _peak_of_gpu(call, device)
    return _peak_of_process(call)


def _peak_of_gpu(call: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_of_process(call: Callable[[], object]) -> int | None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
        before = _resident("VmRSS")
    except (AttributeError, OSError, TypeError):  # no glibc, no Linux, or not allowed
        call()
        return None
    call()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    """A line of the process's status, in bytes."""
    status = (_PROCESS / "status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.M)[1])
