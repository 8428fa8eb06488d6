"""What several training steps share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from advdenoise.datasets._source import IGNORED
from advdenoise.outputs import predicted

Update = tuple[Tensor, dict[str, Tensor]]


def with_reference(function: Callable) -> Callable:
    """Mark a step that takes a `reference`, computed from the clean images by a frozen network.

    `function(network, targets, **settings)` returns a list of tensors [N, ...] for clean images; it
    gets the settings of the step that it lists. The loop keeps the references in memory if it can,
    since they are the same in each epoch.
    """

    def mark(step: Callable) -> Callable:
        step.reference = function  # type: ignore[attr-defined]
        return step

    return mark


def correct_share(logits: Tensor, labels: Tensor) -> Tensor:
    """The correctness of the predictions for each image: float [N] in [0, 1].

    0 or 1 for logits [N, K] and labels [N]. For logits [N, K, H, W] and masks [N, H, W], the share
    of correct pixels among those that the mask does not ignore, 0 if it ignores all.
    """
    correct = predicted(logits) == labels
    if labels.ndim == 1:
        return correct.float()
    labelled = (labels != IGNORED).flatten(1)
    return (correct.flatten(1) & labelled).sum(1) / labelled.sum(1).clamp(min=1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of `correct_share` over the images of a batch."""
    return correct_share(logits, labels).mean()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode and frozen weights, as attacks require; restores the previous state at the end."""
    modes = {module: module.training for module in model.modules()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)
