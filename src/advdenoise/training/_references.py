"""References of training steps: outputs of a frozen network for clean images, kept in memory."""

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# References are kept if together they take at most this many bytes.
_IN_MEMORY = 4 << 30

ReferenceFunction = Callable[[Tensor], list[Tensor]]


def reference_function(step: Callable, network: nn.Module | None) -> ReferenceFunction | None:
    """The function from clean images [N,C,H,W] to the references of a step; None if it has none.

    `step` is bound to its settings; the function that it is marked with (`_steps.with_reference`)
    gets those that it lists.
    """
    function = getattr(getattr(step, "func", step), "reference", None)
    if function is None:
        return None
    parameters = inspect.signature(function).parameters
    settings = {
        name: parameter.default
        for name, parameter in inspect.signature(step).parameters.items()
        if name in parameters and parameter.kind is parameter.KEYWORD_ONLY
    }
    return functools.partial(function, network, **settings)


class References:
    """The references of examples: float32 tensors [N, ...] for the N images of a batch.

    Args:
        function: computes them from clean images, see `reference_function`.
        examples: has `__len__` and `targets(index, device)`.
        batch: images in a pass of the network.
        device: device of the computation and of the results.
    """

    def __init__(self, function: ReferenceFunction, examples, batch: int, device: torch.device):
        self._function, self._examples = function, examples
        self._batch, self._device = batch, device
        self._cache: list[Tensor] = []

    def fill_cache(self) -> Iterator[None]:
        """Compute all references and keep them in float32 or float16, as far as memory allows.

        They are computed in the order of the examples, so that a resumed training gets the same
        bits. Yields after each batch.
        """
        cache: list[Tensor] = []
        for index in torch.arange(len(self._examples)).split(self._batch):
            references = self._function(self._examples.targets(index, self._device))
            cache = cache or self._allocate(references)
            if not cache:
                return
            for store, reference in zip(cache, references, strict=True):
                rows = store[int(index[0]) : int(index[-1]) + 1]
                rows.copy_(reference)
                if rows.dtype == torch.float16 and not rows.isfinite().all():
                    log.info("references exceed half precision: computed again in each epoch")
                    return
            yield
        self._cache = cache

    def get(self, index: Tensor, targets: Tensor) -> list[Tensor]:
        """The references of the examples at `index`, whose clean images are `targets`."""
        if not self._cache:
            return self._function(targets)
        return [store[index].to(self._device).float() for store in self._cache]

    def _allocate(self, references: list[Tensor]) -> list[Tensor]:
        """Empty tensors for all examples; none if memory does not suffice."""
        images = len(self._examples)
        values = images * sum(math.prod(reference.shape[1:]) for reference in references)
        for dtype in (torch.float32, torch.float16):
            if values * dtype.itemsize <= _IN_MEMORY:
                size = values * dtype.itemsize / 1e6
                log.info("references of %d images: kept in memory, %.0f MB", images, size)
                return [torch.empty(images, *r.shape[1:], dtype=dtype) for r in references]
        size = values * torch.float16.itemsize / 1e6
        log.info("references of %d images: %.0f MB, computed again in each epoch", images, size)
        return []
