"""Attacks that leave an image alone once the victim errs on it ("propagation", section 3.2).

Each returns the perturbation, so that images + perturbation is the adversarial image; it lies
inside [0,1], and there is no ball. The gradient is that of the surrogate, the stop rule asks the
victim. An image that the victim has wrong already keeps a perturbation of 0, one that is never
fooled its last one. Images that are done are left out of the batch, which changes nothing but the
time, and no image influences another. One whose gradient is not finite rests. The victim errs
where its outputs are not finite, and no target is reached there.

What they are handed: `images` float [N,C,H,W] in [0,1]; `labels` int64 [N], whose cross-entropy is
raised, or lowered where `targeted`, which are then the classes to reach; `predict` images ->
logits, differentiable, in eval mode, and `victim` images -> outputs, both able to take any rows of
the batch (by `take`, where they draw random numbers); `watch`, which is shown the perturbations
[N,C,H,W], not to be kept or changed, at first and after each step, until all images are done.
What an image has after k steps is what it ends with where `steps` is k. All passes are in float32
without TF32: whether an image is fooled hangs on differences that TF32 does not keep.
"""

import math
from typing import Annotated

import torch
from torch import Tensor

from advdenoise.attacks._ascent import entropy_slope, is_finite, unit
from advdenoise.attacks._ball import limits
from advdenoise.attacks._predict import Predict, Watch, of_rows, refuse_masks
from advdenoise.ops.devices import full_precision
from advdenoise.outputs import predicted
from advdenoise.ranges import Interval, PositiveInt, StepSize

# The line search is repeated once with so many smaller steps if it ends within as many.
FINER = 20


@full_precision()
def line_search(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    watch: Watch,
    *,
    steps: PositiveInt,
    increment: StepSize = 0.001,
) -> Tensor:
    """FGSM whose length is searched for: the sign attack of foolbox 1.

    The image moves along the sign of its own gradient, which is taken once, by 1, 2, ..., `steps`
    times `increment` (in pixel units; foolbox divides the range of pixels by 1,000) until the
    victim errs. Where that is within the first 20 lengths, the search is repeated with 20 equal
    parts of the length found.
    """
    search = _Search(images, labels, targeted, victim)
    direction = torch.zeros_like(images)
    if len(rows := search.left):
        slope = entropy_slope(images[rows], labels[rows], of_rows(predict, rows))
        direction[rows] = slope.sign().where(is_finite(slope), 0)
    if targeted:
        direction.neg_()
    watch(search.perturbation)
    for step in range(1, steps + 1):
        rows = search.left
        if not len(rows):
            break
        length = step * increment
        fooled = search.move(rows, direction[rows] * length)
        for part in range(1, FINER + 1) if step <= FINER else ():
            if not len(fooled):
                break
            done = search.move(fooled, direction[fooled] * (length * (part / FINER)))
            fooled = _without(fooled, done)
        watch(search.perturbation)
    return search.perturbation


@full_precision()
def i_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    watch: Watch,
    *,
    steps: PositiveInt,
    alpha: StepSize,
) -> Tensor:
    """At most `steps` of `alpha`, in pixel units, along the sign of the gradient at each place."""
    return _climb(images, labels, targeted, predict, victim, watch, steps, alpha, mu=0.0)


@full_precision()
def mi_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    watch: Watch,
    *,
    steps: PositiveInt,
    alpha: StepSize,
    mu: Annotated[float, Interval(ge=0, le=10)] = 1.0,
) -> Tensor:
    """`i_fgsm` along the sign of g <- mu g + gradient / |gradient|_1 (Dong et al. 2018).

    `mu` >= 0 is the decay of the momentum g, which starts at 0.
    """
    return _climb(images, labels, targeted, predict, victim, watch, steps, alpha, mu)


def _climb(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    victim: Predict,
    watch: Watch,
    steps: int,
    alpha: float,
    mu: float,
) -> Tensor:
    search = _Search(images, labels, targeted, victim)
    momentum = torch.zeros_like(images)
    alpha = -alpha if targeted else alpha
    watch(search.perturbation)
    for _ in range(steps):
        rows = search.left
        if not len(rows):
            break
        so_far = search.perturbation[rows]
        slope = entropy_slope(images[rows] + so_far, labels[rows], of_rows(predict, rows))
        finite = is_finite(slope)
        momentum[rows] = mu * momentum[rows] + unit(slope).where(finite, 0)
        search.move(rows, so_far + alpha * momentum[rows].sign().where(finite, 0))
        watch(search.perturbation)
    return search.perturbation


class _Search:
    """Where the images of a batch stand: `perturbation`, and the places that are `left` to move."""

    def __init__(self, images: Tensor, labels: Tensor, targeted: bool, victim: Predict):
        refuse_masks(labels, "an attack with a stop rule")
        self._images, self._labels, self._targeted = images, labels, targeted
        self._victim = victim
        self._lower, self._upper = limits(images, math.inf)
        self.perturbation = torch.zeros_like(images)
        everyone = torch.arange(len(images), device=images.device)
        self.left = everyone[~self._fooled(everyone)]

    def move(self, rows: Tensor, perturbation: Tensor) -> Tensor:
        """Give these places a perturbation, clipped to [0,1]; those of them that it fools."""
        self.perturbation[rows] = perturbation.clamp(self._lower[rows], self._upper[rows])
        fooled = rows[self._fooled(rows)]
        self.left = _without(self.left, fooled)
        return fooled

    @torch.no_grad()
    def _fooled(self, rows: Tensor) -> Tensor:
        seen = self._images[rows] + self.perturbation[rows]
        reached = predicted(of_rows(self._victim, rows)(seen)) == self._labels[rows]
        return reached if self._targeted else ~reached


def _without(rows: Tensor, others: Tensor) -> Tensor:
    return rows[~torch.isin(rows, others)]
