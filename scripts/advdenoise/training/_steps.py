"""What several steps have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Update = tuple[Tensor, dict[str, Tensor]]


def compares_with(make: Callable) -> Callable:
    """Marks a step that takes a `reference`, which is the same in each epoch.

    `make(network, targets, **settings)` gives it for clean images: a list of tensors [N, ...]. It
    gets those of the step's settings that it lists; the loop keeps what it gives if it can.
    """

    def mark(step: Callable) -> Callable:
        step.reference = make
        return step

    return mark


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of rows [N, K] whose largest logit is the label's."""
    return (logits.argmax(1) == labels).float().mean()


@contextmanager
def attacked(model: nn.Module) -> Iterator[None]:
    """Eval mode and frozen weights, as an attack wants them; afterwards all is as before."""
    modes = {module: module.training for module in model.modules()}
    trained = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)
