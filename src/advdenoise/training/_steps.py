"""What several steps have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from advdenoise.datasets._source import IGNORED
from advdenoise.outputs import predicted

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


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How right the largest logits are for each image: float [N] in [0, 1].

    Logits [N, K] of labels [N] are right or wrong; of logits [N, K, H, W] it is the share of right
    pixels among those that the masks [N, H, W] do not ignore (0 where they ignore all).
    """
    right = predicted(logits) == labels
    if labels.ndim == 1:
        return right.float()
    labelled = (labels != IGNORED).flatten(1)
    return (right.flatten(1) & labelled).sum(1) / labelled.sum(1).clamp(min=1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of rows [N, K] whose largest logit is the label's; of masks the mean of `hits`."""
    return hits(logits, labels).mean()


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
