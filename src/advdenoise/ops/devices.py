"""The device of this job: a GPU that no other job uses meanwhile, or the CPU."""

import functools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from advdenoise.errors import Preempted
from advdenoise.ops import locks
from advdenoise.ops.resume import Interruption

if TYPE_CHECKING:
    import torch
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

# Shared by all users of a machine, and by containers that mount it.
LOCKS = Path("/tmp")
_POLL_SECONDS = 1.0  # between two attempts while all GPUs are busy
_acquired: list["BaseFileLock"] = []  # kept, because a lock is released when it is deleted


def visible_gpus() -> str | None:
    """CUDA_VISIBLE_DEVICES if it names a GPU, else None."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    return None if value in ("", "-1", "NoDevFiles") else value


@functools.cache
def device() -> "torch.device":
    """The first visible GPU that no other job uses; the CPU if torch finds no GPU.

    The GPU is reserved until this process ends, in whatever way. If all are busy, wait for the
    first free one.

    Raises:
        Preempted: on SIGTERM or SIGUSR1 while waiting.
    """
    import torch

    if not torch.cuda.is_available():
        if visible := visible_gpus():
            log.warning(
                "CUDA_VISIBLE_DEVICES=%s names a GPU but torch finds none: running on the CPU",
                visible,
            )
        return torch.device("cpu")
    index = _acquire_first_free([_lock_file(index) for index in range(torch.cuda.device_count())])
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute in float32 without TF32, which CUDA's convolutions use by default.

    TF32 keeps three digits: distances of small perturbations double, and images near a decision
    boundary change class. Also a decorator.
    """
    import torch

    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.allow_tf32 = was


def _lock_file(index: int) -> Path:
    """The lock file of a GPU, named by its UUID: jobs may number the same GPUs differently.

    Reading the properties creates no context, so it takes no memory of a GPU in use.
    """
    import torch

    name = getattr(torch.cuda.get_device_properties(index), "uuid", index)
    return LOCKS / f"advdenoise-gpu-{name}.lock"


def _acquire_first_free(files: list[Path]) -> int:
    """Acquire the first free lock, until this process ends, and return its position."""
    warned = False
    with Interruption() as interruption:
        while not interruption.signal:
            for index, file in enumerate(files):
                if _try_acquire(file):
                    return index
            if not warned:
                holders = (f"{file} by process {locks.holder(file)}" for file in files)
                log.warning("all GPUs are busy, waiting for a free one: %s", ", ".join(holders))
                warned = True
            time.sleep(_POLL_SECONDS)
    raise Preempted(f"{interruption.signal} received while waiting for a GPU")


def _try_acquire(file: Path) -> bool:
    try:
        lock = locks.acquire(file, wait=False)
    except OSError as error:
        log.warning("%s: %s; make sure that no other job uses this GPU", file, error.strerror)
        return True
    if lock is not None:
        _acquired.append(lock)
    return lock is not None
