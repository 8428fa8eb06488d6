"""The networks that attacks are given: `predict`, `victim`, `classifier` and `select`.

Each is a function from images [N,C,H,W] to outputs. A network behind a purifier that draws random
numbers belongs to the images of one batch and has two more members: `take(rows)`, the same network
for some rows of the batch, and `per_draw`, one network for each draw of the expectation over
transformation, whose outputs are averaged when it is called.

`select` is `predict` with `SELECTION_DRAWS` draws of the stream "selection", which nothing else
uses: an attack that returns the best of its iterates chooses it by these draws. It is None where
`predict` draws no random numbers.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput
from advdenoise.outputs import finite_rows, predicted

Predict = Callable[[Tensor], Tensor]
# Called with the current perturbations while an attack runs.
Callback = Callable[[Tensor], None]
# Draws of `select`
SELECTION_DRAWS = 10


def for_rows(predict: Predict, rows: Tensor) -> Predict:
    """`predict` for the images at `rows` (int64 indices) of the batch."""
    take = getattr(predict, "take", None)
    return take(rows) if take else predict


def per_draw(predict: Predict) -> Sequence[Predict]:
    """One network for each draw of `predict`; `predict` alone if it draws no random numbers."""
    return getattr(predict, "per_draw", (predict,))


def copied(predict: Predict) -> Predict:
    """`predict` with streams of random numbers that go on from here apart from its own."""
    copy = getattr(predict, "copy", None)
    return copy() if copy else predict


def pull_back(predict: Predict, images: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient in what one draw of `predict` makes of images to that in the images.

    Behind a purifier whose gradient `predict` replaces by the identity, `gradient` [N,C,H,W] is one
    in the purified images, and is multiplied by the purifier's Jacobian. Elsewhere it is returned.
    """
    method = getattr(predict, "pull_back", None)
    return method(images, gradient) if method else gradient


def margin(outputs: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """The margin by which the attack still fails on each image, negative once it succeeds: [N].

    The label's output minus the largest other one, the opposite if `targeted`, from outputs
    [N, classes]. Outputs that are not finite predict no class: the margin is then -infinity,
    +infinity if `targeted`.
    """
    label_output = outputs.gather(1, labels[:, None])[:, 0]
    other = outputs.scatter(1, labels[:, None], -math.inf).max(1).values
    result = other - label_output if targeted else label_output - other
    return result.where(finite_rows(outputs), math.inf if targeted else -math.inf)


def fooled_share(outputs: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """Whether the attack succeeds on each image, bool [N]; of masks the share of labelled pixels.

    Success is another prediction than the label, or the label if `targeted`. The share is float
    [N], 0 for a mask without labelled pixels. Outputs that are not finite predict no class.
    """
    succeeds = (predicted(outputs) == labels) == targeted
    if labels.ndim == 1:
        return succeeds
    labelled = labels != IGNORED
    count = labelled.flatten(1).sum(1).clamp(min=1)
    return (succeeds & labelled).flatten(1).sum(1).to(outputs.dtype) / count


def competitors(outputs: Tensor, labels: Tensor, candidates: int) -> Tensor:
    """The classes with the largest outputs other than the label: [N, at most candidates - 1]."""
    label_first = outputs.scatter(1, labels[:, None], math.inf)
    return label_first.sort(dim=1, descending=True, stable=True).indices[:, 1:candidates]


def refuse_masks(labels: Tensor, function: str) -> None:
    """Raise BadInput for masks [N,H,W]: `function` needs one label per image."""
    if labels.ndim > 1:
        raise BadInput(
            f"attacks: {function} needs one label per image, but this data set has one per pixel; "
            "use gradient.fgsm, gradient.bim, gradient.pgd or gradient.segpgd"
        )
