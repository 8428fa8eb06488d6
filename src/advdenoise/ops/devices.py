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

log = logging.getLogger(__name__)

# Where all users of a machine, and the containers that share it, find one another's locks.
LOCKS = Path("/tmp")
_LOOK_AGAIN = 1.0  # seconds between two looks at busy GPUs


def visible_gpus() -> str | None:
    """CUDA_VISIBLE_DEVICES where it lets this job see a GPU, None otherwise."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    return None if value in ("", "-1", "NoDevFiles") else value


@functools.cache
def device() -> "torch.device":
    """The first visible GPU that no other job holds; the CPU where torch finds no GPU.

    The GPU is this process's until it ends, however it ends. If all are busy, wait for the first
    to come free.

    Raises:
        Preempted: on SIGTERM or SIGUSR1 while waiting.
    """
    import torch

    if not torch.cuda.is_available():
        promised = visible_gpus()
        if promised:
            log.warning(
                "CUDA_VISIBLE_DEVICES=%s promises a GPU but torch finds none: working on the CPU",
                promised,
            )
        return torch.device("cpu")
    index = _claim([_lock_of(index) for index in range(torch.cuda.device_count())])
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 as it is: without TF32, which CUDA's convolutions use by default.

    It keeps three digits, so that distances of small perturbations get twice as large, and images
    near a decision go over it. Also a decorator.
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


def _lock_of(index: int) -> Path:
    """The lock file of a GPU, named so that whoever sees it by another number finds the same.

    Properties are read without a context, so a GPU that others use gives up no memory for it.
    """
    import torch

    name = getattr(torch.cuda.get_device_properties(index), "uuid", index)
    return LOCKS / f"advdenoise-gpu-{name}.lock"


def _claim(files: list[Path]) -> int:
    """Take the first lock that is free; its place in the list."""
    told = False
    with Interruption() as interruption:
        while not interruption.asked:
            for index, file in enumerate(files):
                if _is_ours(file):
                    return index
            if not told:
                held = (f"{file} by process {locks.holder(file)}" for file in files)
                log.warning("all GPUs are busy, waiting for one to come free: %s", ", ".join(held))
                told = True
            time.sleep(_LOOK_AGAIN)
    raise Preempted(f"{interruption.asked} received while waiting for a GPU")


def _is_ours(file: Path) -> bool:
    try:
        return locks.take(file, wait=False) is not None  # never closed: ours until we end
    except OSError as error:
        log.warning("%s: %s; see that no other job uses this GPU", file, error.strerror)
        return True
