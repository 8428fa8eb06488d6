"""How much memory a piece of work takes at most."""

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # of proc(5): the peak starts again at what is resident now
_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 1 << 20
_USUAL_THRESHOLD = 32 << 20  # where glibc's own, which grows with what is freed, ends


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Run `call`; the most that was taken beyond what is held before, None where no one tells.

    On a GPU what torch allocated there; else resident memory, as Linux counts it. What is freed
    meanwhile goes back to the system, so that the peak is of what is held at one time. (What fits
    into a hole that the process has left in its heap before does not: measure early in a process.)
    """
    if device.type == "cuda":
        return _peak_of_gpu(call, device)
    return _peak_of_process(call)


def reset_most_held(device: torch.device) -> None:
    """Let `most_held` begin anew, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            (_PROCESS / "clear_refs").write_text(_RESET_PEAK)


def most_held(device: torch.device) -> int | None:
    """The most bytes that torch held on a GPU, or else this process in memory; None if unknown.

    With networks and libraries, since `reset_most_held` or, where that is not allowed, ever.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return _resident("VmHWM")
    except OSError:
        return None


def _peak_of_gpu(call: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _peak_of_process(call: Callable[[], object]) -> int | None:
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim(0)
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
        before = _resident("VmRSS")
    except (AttributeError, OSError, TypeError):  # no glibc, no Linux, or not allowed
        call()
        return None
    with _freed_at_once(library):
        call()
    return _resident("VmHWM") - before


@contextmanager
def _freed_at_once(library: ctypes.CDLL) -> Iterator[None]:
    """Let what is large be a mapping of its own, which ends when it is freed.

    In the heap it could stay resident behind something small, by chance, and count for ever.
    """
    library.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        usual = os.environ.get("MALLOC_MMAP_THRESHOLD_", _USUAL_THRESHOLD)
        library.mallopt(_MMAP_THRESHOLD, int(usual))


def _resident(name: str) -> int:
    """A line of the process's status, in bytes."""
    status = (_PROCESS / "status").read_text(encoding="utf-8")
    match = re.search(rf"^{name}:\s+(\d+) kB$", status, re.M)
    assert match
    return 1024 * int(match[1])
