"""How attacks ask the network that they are handed.

A plain network is a function of images. One behind a purifier that draws random numbers belongs to
the images of one batch: it also has `take(rows)`, itself for some rows of that batch, and `each`,
one such network for each draw of the expectation over transformation, whose outputs it averages.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from advdenoise.errors import BadInput
from advdenoise.outputs import finite_rows

Predict = Callable[[Tensor], Tensor]
# Is shown perturbations while an attack is under way.
Watch = Callable[[Tensor], None]


def of_rows(predict: Predict, rows: Tensor) -> Predict:
    """`predict` for the images at `rows` (int64 places) of the batch."""
    take = getattr(predict, "take", None)
    return take(rows) if take else predict


def each(predict: Predict) -> Sequence[Predict]:
    """`predict` once for each of its draws; itself where it draws nothing."""
    return getattr(predict, "each", (predict,))


def margin(outputs: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """By how much each image is not yet fooled, from outputs [N, classes]: [N].

    Outputs that are not finite stand for no class: the label is left, by infinity, and a target is
    not reached.
    """
    own = outputs.gather(1, labels[:, None])[:, 0]
    other = outputs.scatter(1, labels[:, None], -math.inf).max(1).values
    ahead = other - own if targeted else own - other
    return ahead.where(finite_rows(outputs), math.inf if targeted else -math.inf)


def refuse_masks(labels: Tensor, function: str) -> None:
    """BadInput for masks [N,H,W], where `function` asks whether an image is fooled."""
    if labels.ndim > 1:
        raise BadInput(
            f"attacks: {function} asks whether an image is fooled, but these images have a class "
            "for each pixel; take gradient.fgsm, gradient.bim, gradient.pgd or gradient.segpgd"
        )
