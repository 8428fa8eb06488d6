"""What steps compare with: made of the clean images by a frozen network, so once for each image."""

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# References that together take no more bytes are kept in memory.
_IN_MEMORY = 4 << 30

Make = Callable[[Tensor], list[Tensor]]


def maker(step: Callable, network: nn.Module | None) -> Make | None:
    """From clean images [N,C,H,W] to the references of a step; None where it compares with none.

    `step` is bound to its settings, of which the function that it is marked with
    (`_steps.compares_with`) gets those that it lists.
    """
    make = getattr(getattr(step, "func", step), "reference", None)
    if make is None:
        return None
    lists = inspect.signature(make).parameters
    settings = {
        name: parameter.default
        for name, parameter in inspect.signature(step).parameters.items()
        if name in lists and parameter.kind is parameter.KEYWORD_ONLY
    }
    return functools.partial(make, network, **settings)


class References:
    """The references of examples: float32 tensors [N, ...] for the N images of a batch.

    Args:
        make: gives them for clean images, as `maker` says.
        examples: has `__len__` and `targets(index, device)`.
        batch: images that they are made of at once.
        device: where they are made and wanted.
    """

    def __init__(self, make: Make, examples, batch: int, device: torch.device):
        self._make, self._examples, self._batch, self._device = make, examples, batch, device
        self._kept: list[Tensor] = []

    def keep(self) -> Iterator[None]:
        """Make them all and keep them, in single or half precision, as far as memory allows.

        They are made in the order of the examples, so that a resumed training gets the same bits.
        Yields after every batch.
        """
        kept: list[Tensor] = []
        for index in torch.arange(len(self._examples)).split(self._batch):
            made = self._make(self._examples.targets(index, self._device))
            kept = kept or self._room(made)
            if not kept:
                return
            for store, reference in zip(kept, made, strict=True):
                rows = store[int(index[0]) : int(index[-1]) + 1]
                rows.copy_(reference)
                if rows.dtype == torch.float16 and not rows.isfinite().all():
                    log.info("references exceed half precision: made anew in each epoch")
                    return
            yield
        self._kept = kept

    def of(self, index: Tensor, targets: Tensor) -> list[Tensor]:
        """Those of the examples at `index`, whose clean images are `targets`."""
        if not self._kept:
            return self._make(targets)
        return [kept[index].to(self._device).float() for kept in self._kept]

    def _room(self, made: list[Tensor]) -> list[Tensor]:
        """Empty tensors for all examples; none where memory does not suffice."""
        images = len(self._examples)
        values = images * sum(math.prod(reference.shape[1:]) for reference in made)
        for dtype in (torch.float32, torch.float16):
            if values * dtype.itemsize <= _IN_MEMORY:
                size = values * dtype.itemsize / 1e6
                log.info("references of %d images: kept in memory, %.0f MB", images, size)
                return [torch.empty(images, *r.shape[1:], dtype=dtype) for r in made]
        size = values * torch.float16.itemsize / 1e6
        log.info("references of %d images: %.0f MB, made anew in each epoch", images, size)
        return []
