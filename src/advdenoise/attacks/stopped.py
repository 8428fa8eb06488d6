"""Attacks that stop for each image as soon as they succeed (Yoon et al. 2019, section 3.2).

Each returns the perturbation: images + perturbation is the adversarial image, inside [0,1]; there
is no ball. The gradient comes from the surrogate, the stop rule from the victim. An attack succeeds
on an image that the victim misclassifies, or classifies as the target; outputs that are not finite
are misclassified and reach no target. Where it has succeeded from the start the perturbation is 0;
where it never succeeds the last one is returned. Images do not influence each other; finished ones
leave the batch, which affects the time only. An image whose gradient is not finite does not move in
that step.

All passes are in float32 without TF32, whose precision does not suffice for the stop rule.

Arguments:

    images: float [N,C,H,W] in [0,1].
    labels: int64 [N], the true classes, or the targets if `targeted`. BadInput for masks.
    targeted: minimise the cross-entropy of `labels` instead of maximising it.
    predict: the surrogate, images -> logits, differentiable, in eval mode.
    victim: images -> outputs. Both networks take any rows of the batch (by `take` if they draw
        random numbers).
    callback: called with the perturbations [N,C,H,W], which it must neither keep nor modify, at
        the start and after each step until all images are finished. After k steps they are what
        `steps: k` would return.
"""

import math
from typing import Annotated

import torch
from torch import Tensor

from advdenoise.attacks._ascent import cross_entropy_gradient, l1_normalised
from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import is_finite
from advdenoise.attacks._predict import Callback, Predict, for_rows, refuse_masks
from advdenoise.ops.devices import full_precision
from advdenoise.outputs import predicted
from advdenoise.ranges import Interval, PositiveInt, StepSize

# A line search that ends within this many steps is repeated with this many smaller steps.
FINER = 20


@full_precision()
def line_search(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    callback: Callback,
    *,
    steps: PositiveInt,
    increment: StepSize = 0.001,
) -> Tensor:
    """FGSM with a line search over its length: the sign attack of foolbox 1.

    The perturbation is the sign of the gradient at the clean image times 1, 2, ..., `steps` times
    `increment` (in pixel units; foolbox divides the range of pixels by 1,000), until it succeeds.
    If that happens within the first 20 lengths, the search is repeated in 20 equal parts of the
    successful length.
    """
    search = _Search(images, labels, targeted, victim)
    direction = torch.zeros_like(images)
    if len(rows := search.active):
        gradient = cross_entropy_gradient(images[rows], labels[rows], for_rows(predict, rows))
        direction[rows] = gradient.sign().where(is_finite(gradient), 0)
    if targeted:
        direction.neg_()
    callback(search.perturbation)
    for step in range(1, steps + 1):
        rows = search.active
        if not len(rows):
            break
        length = step * increment
        coarse = search.move(rows, direction[rows] * length)
        for part in range(1, FINER + 1) if step <= FINER else ():
            if not len(coarse):
                break
            fine = search.move(coarse, direction[coarse] * (length * (part / FINER)))
            coarse = _without(coarse, fine)
        callback(search.perturbation)
    return search.perturbation


@full_precision()
def i_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    callback: Callback,
    *,
    steps: PositiveInt,
    alpha: StepSize,
) -> Tensor:
    """I-FGSM: at most `steps` steps of `alpha` (pixel units) along the sign of the gradient."""
    return _iterate(images, labels, targeted, predict, victim, callback, steps, alpha, mu=0.0)


@full_precision()
def mi_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    callback: Callback,
    *,
    steps: PositiveInt,
    alpha: StepSize,
    mu: Annotated[float, Interval(ge=0, le=10)] = 1.0,
) -> Tensor:
    """`i_fgsm` along the sign of g <- mu g + gradient / |gradient|_1 (Dong et al. 2018).

    `mu` >= 0 is the decay of the momentum g, which starts at 0.
    """
    return _iterate(images, labels, targeted, predict, victim, callback, steps, alpha, mu)


def _iterate(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    callback: Callback,
    steps: int,
    alpha: float,
    mu: float,
) -> Tensor:
    search = _Search(images, labels, targeted, victim)
    momentum = torch.zeros_like(images)
    alpha = -alpha if targeted else alpha
    callback(search.perturbation)
    for _ in range(steps):
        rows = search.active
        if not len(rows):
            break
        current = search.perturbation[rows]
        network = for_rows(predict, rows)
        gradient = cross_entropy_gradient(images[rows] + current, labels[rows], network)
        finite = is_finite(gradient)
        momentum[rows] = mu * momentum[rows] + l1_normalised(gradient).where(finite, 0)
        search.move(rows, current + alpha * momentum[rows].sign().where(finite, 0))
        callback(search.perturbation)
    return search.perturbation


class _Search:
    """A batch under attack: `perturbation`, and the `active` rows, where it has yet to succeed."""

    def __init__(self, images: Tensor, labels: Tensor, targeted: bool, victim: Predict):
        refuse_masks(labels, "an attack with a stop rule")
        self._images, self._labels, self._targeted = images, labels, targeted
        self._victim = victim
        self._lower, self._upper = limits(images, math.inf)
        self.perturbation = torch.zeros_like(images)
        rows = torch.arange(len(images), device=images.device)
        self.active = rows[~self._succeeds(rows)]

    def move(self, rows: Tensor, perturbation: Tensor) -> Tensor:
        """Set some rows' perturbation, clipped to [0,1]; return the rows where it succeeds."""
        self.perturbation[rows] = perturbation.clamp(self._lower[rows], self._upper[rows])
        finished = rows[self._succeeds(rows)]
        self.active = _without(self.active, finished)
        return finished

    @torch.no_grad()
    def _succeeds(self, rows: Tensor) -> Tensor:
        inputs = self._images[rows] + self.perturbation[rows]
        is_label = predicted(for_rows(self._victim, rows)(inputs)) == self._labels[rows]
        return is_label if self._targeted else ~is_label


def _without(rows: Tensor, others: Tensor) -> Tensor:
    return rows[~torch.isin(rows, others)]
