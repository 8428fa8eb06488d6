"""Attacks that look for the smallest perturbation that fools the classifier.

Each returns the perturbation, finite, so that images + perturbation lies inside [0,1]. An image
that is fooled already gets a perturbation of 0. Images never influence each other; those that are
done are left out of the batch, which changes nothing but the time. Outputs that are not finite
stand for no class: such an image is fooled, and no target is reached.

What they are handed: `images` float [N,C,H,W] in [0,1]; `labels` int64 [N], the classes to leave,
or to reach where `targeted`; `predict` images -> outputs [N, classes], differentiable, in eval mode
and able to take any rows of the batch (by `take`, where it draws random numbers). Both attacks
compare outputs by their difference, whether these are logits, as in the papers on the attacks, or
probabilities, as in "segfault".
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor

from advdenoise.attacks._ball import limits
from advdenoise.attacks._predict import Predict, margin, of_rows, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.outputs import predicted
from advdenoise.ranges import (
    Epsilon,
    Interval,
    NonNegativeFloat,
    Pixel,
    PositiveFloat,
    PositiveInt,
    Share,
)

Hinge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# Adam (Kingma & Ba 2015).
BETAS, TINY = (0.9, 0.999), 1e-8
# Images are drawn in by this much, so that black and white have a finite place in tanh space.
SHRINK = 0.999999


def deepfool(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    *,
    norm: Literal["linf", "l2"] = "linf",
    steps: PositiveInt = 50,
    candidates: Annotated[int, Interval(ge=2)] = 10,
    overshoot: Annotated[float, Interval(ge=0, le=10)] = 0.02,
    epsilon: Epsilon | Tensor | None = None,
) -> Tensor:
    """Steps to the nearest boundary of the linearised classifier (Moosavi-Dezfooli et al. 2016).

    Algorithm 2, with section 3.3 for other norms, and as foolbox does it: of the `candidates` - 1
    classes that rival the label on the clean image, the one with the smallest distance |f| / |w|
    of f = output - label's output and its gradient w, then a step of that distance + 1e-4. The
    image is moved by (1 + `overshoot`) times the sum of the steps, clipped to [0,1], until it is
    fooled or has taken `steps`. Where no gradient is finite, or all vanish, it stays where it is.

    `norm` is what is minimised: linf or l2. With `epsilon`, in pixel units, a number or [N,1,1,1],
    the perturbation found is brought into that norm's ball in the end, fooled or not: by clipping
    its elements (linf), by scaling it (l2).

    Raises BadInput for another norm or fewer than 2 candidates.
    """
    refuse_masks(labels, "minimal.deepfool")
    if norm not in ("linf", "l2"):
        raise BadInput(f"settings.norm: {norm!r} is unknown; take linf or l2")
    if candidates < 2:
        raise BadInput(f"settings.candidates: {candidates} classes cannot rival; take 2 or more")
    lower, upper = limits(images, math.inf)
    travelled, perturbation = torch.zeros_like(images), torch.zeros_like(images)
    with torch.no_grad():
        outputs = predict(images)
    rivals = _rivals(outputs, labels, candidates)
    rows = (predicted(outputs) == labels).nonzero().flatten()
    for _ in range(steps):
        if not len(rows):
            break
        seen = images[rows] + perturbation[rows]
        ask = of_rows(predict, rows)
        step = _to_boundary(seen, labels[rows], rivals[rows], ask, norm)
        # Who does not move sees the same gradient for ever.
        moved = step.flatten(1).any(1)
        rows = rows[moved]
        if not len(rows):
            break
        travelled[rows] += step[moved]
        far = (1 + overshoot) * travelled[rows]
        perturbation[rows] = far.clamp_(lower[rows], upper[rows])
        # The backward passes cost more than this look, which spares them for all who are fooled.
        with torch.no_grad():
            outputs = of_rows(predict, rows)(images[rows] + perturbation[rows])
        rows = rows[predicted(outputs) == labels[rows]]
    return perturbation if epsilon is None else _into_ball(perturbation, images, epsilon, norm)


def carlini_wagner(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    *,
    binary_search_steps: PositiveInt = 9,
    steps: PositiveInt = 500,
    stepsize: PositiveFloat = 0.01,
    initial_const: PositiveFloat = 1e-3,
    confidence: NonNegativeFloat = 0.0,
    unit: Share = 1.0,
    fill: Pixel | None = None,
    abort_early: bool = False,
) -> Tensor:
    """The smallest L2 perturbation by gradient descent in tanh space (Carlini & Wagner 2017).

    Section VI-A, as foolbox does it: with pixels x = (tanh(w) + 1) / 2 Adam of rate `stepsize`
    takes `steps` down |x - image|^2 + c max(0, m + `confidence`), m being the output of the label
    minus the largest other output (reversed where `targeted`). Fooled is an image whose m +
    `confidence` is negative, and the nearest fooled image of all steps counts. c starts at
    `initial_const` and is searched anew for each image `binary_search_steps` times: ten times as
    large until it has fooled, then halfway between the largest that did not and the smallest that
    did; of 10 or more searches the last takes the smallest that did once more. An element whose
    gradient is not finite counts as without gradient.

    With `abort_early` an image's search ends where, a tenth of `steps` after the last look, the
    objective has not fallen by 0.01 %. foolbox looks at the sum over a batch instead, so that an
    image's result depends on the others; its default, which was measured to cost 8 to 12 % of the
    distance.

    `unit` is the length, in pixels, in which the distance is measured: a const printed for another
    scale of the images holds as it is. An attack on z-scored images is this one with the standard
    deviation for `unit`: tanh space is the same for all bounds, so that `stepsize` means the same
    and the scale enters in |x - image|^2 / unit^2 alone. (To divide the const by the square of the
    scale instead is nearly the same, but for Adam's constant of 1e-8, which then meets gradients of
    another size.)

    An image that cannot be fooled keeps a perturbation of 0; with `fill`, a pixel value, every
    pixel of it is set to that. foolbox hands back 0 in the model's own unit there, which in
    "segfault" is the grey of 120.70748/255.
    """
    refuse_masks(labels, "minimal.carlini_wagner")
    with torch.no_grad():
        fooled = margin(predict(images), labels, targeted) + confidence < 0
    perturbation = torch.zeros_like(images)
    rows = (~fooled).nonzero().flatten()
    if not len(rows):
        return perturbation
    given = images[rows]
    ask = of_rows(predict, rows)
    hinge = functools.partial(
        _hinge, labels=labels[rows], targeted=targeted, predict=ask, confidence=confidence
    )
    nearest, distance = given.clone(), torch.full_like(given[:, 0, 0, 0], math.inf)
    const = torch.full_like(distance, initial_const, dtype=torch.float64)
    low, high = torch.zeros_like(const), torch.full_like(const, math.inf)
    for search in range(1, binary_search_steps + 1):
        if search == binary_search_steps >= 10:
            const = high.clamp(max=1e10)
        found = torch.zeros_like(distance, dtype=torch.bool)
        progress = _Progress(steps, distance) if abort_early else None
        for seen, length, is_fooled, loss in _descend(given, hinge, const, unit, steps, stepsize):
            if progress:
                is_fooled = is_fooled & progress.goes_on(loss)
                if not progress.running.any():
                    break
            closer = is_fooled & (length < distance)
            torch.where(_wide(closer), seen, nearest, out=nearest)
            torch.where(closer, length, distance, out=distance)
            found |= is_fooled
        high, low = torch.where(found, const, high), torch.where(found, low, const)
        const = torch.where(high.isinf(), const * 10, (low + high) / 2)
    if fill is not None:
        nearest[distance.isinf()] = fill
    perturbation[rows] = (nearest - given).clamp_(*limits(given, math.inf))
    return perturbation


class _Progress:
    """Which images' objectives still fall, looked at after each tenth of the steps."""

    def __init__(self, steps: int, like: Tensor):
        self._every, self._step = math.ceil(steps / 10), 0
        self._loss = torch.full_like(like, math.inf)
        self.running = torch.ones_like(like, dtype=torch.bool)

    def goes_on(self, loss: Tensor) -> Tensor:
        """Whether each image's search goes on at this step: bool [N]."""
        if self._step % self._every == 0:
            self.running &= loss <= 0.9999 * self._loss
            self._loss = loss
        self._step += 1
        return self.running


def _rivals(outputs: Tensor, labels: Tensor, candidates: int) -> Tensor:
    """The classes [N, candidates - 1 or fewer] with the largest outputs beside the label."""
    first = outputs.scatter(1, labels[:, None], math.inf)
    return first.sort(dim=1, descending=True, stable=True).indices[:, 1:candidates]


def _to_boundary(
    seen: Tensor, labels: Tensor, rivals: Tensor, predict: Predict, norm: str
) -> Tensor:
    """Each image's step over the nearest linearised boundary; 0 where there is none."""
    with torch.enable_grad():
        seen = seen.detach().requires_grad_()
        outputs = predict(seen)
        leads = outputs.gather(1, rivals) - outputs.gather(1, labels[:, None])
        totals = leads.sum(0).unbind()
    nearest, length = seen.new_full((len(seen),), math.inf), seen.new_ones(len(seen))
    direction = torch.zeros_like(seen)
    for place, total in enumerate(totals):
        (slope,) = torch.autograd.grad(total, seen, retain_graph=place + 1 < len(totals))
        # The distance in one norm goes with the gradient's size in its dual.
        size = slope.flatten(1).norm(1 if norm == "linf" else 2, dim=1) + 1e-8
        distance = leads[:, place].detach().abs().to(seen.dtype) / size
        closer = (distance < nearest) & size.isfinite()
        nearest, length = nearest.where(~closer, distance), length.where(~closer, size)
        direction = direction.where(~_wide(closer), slope)
    nearest = (nearest + 1e-4).where(nearest.isfinite(), 0)
    if norm == "linf":
        return direction.sign_().mul_(_wide(nearest))
    return direction.mul_(_wide(nearest / length))


def _into_ball(perturbation: Tensor, images: Tensor, epsilon: float | Tensor, norm: str) -> Tensor:
    if norm == "l2":
        length = _wide(perturbation.flatten(1).norm(dim=1))
        perturbation = perturbation * (epsilon / length.clamp(min=1e-12)).clamp(max=1)
    return perturbation.clamp(*limits(images, epsilon)).to(images.dtype)


def _descend(
    images: Tensor, hinge: Hinge, const: Tensor, unit: float, steps: int, stepsize: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Adam in tanh space: at every step images [N,...], distances, whether fooled, objectives [N].

    Objectives are times unit^2; the gradient is that of 2 unit^2 times the objective, which spares
    passes over memory; `TINY`, the only place where Adam sees a gradient's size, is scaled like it.
    """
    half = images.new_tensor(0.5)
    place = (images * 2).sub_(1).mul_(SHRINK).atanh_()
    start = place.tanh()
    weight = (const * unit**2).to(images.dtype)
    mean, square = torch.zeros_like(place), torch.zeros_like(place)
    first, second = BETAS
    for step in range(1, steps + 1):
        squashed = place.tanh()
        change = squashed - start
        seen = torch.add(half, squashed, alpha=0.5)
        slope, ahead = hinge(seen, weight)
        length = change.flatten(1).norm(dim=1).mul_(0.5)
        yield seen, length, ahead < 0, length.square() + weight * ahead.clamp(min=0)
        slope = slope.nan_to_num(0, 0, 0).add_(change)
        slope = torch.ops.aten.tanh_backward(slope, squashed)
        mean.lerp_(slope, 1 - first)
        square.mul_(second).addcmul_(slope, slope, value=1 - second)
        size = square.div(1 - second**step).sqrt_().add_(TINY * 2 * unit**2)
        place.addcdiv_(mean, size, value=-stepsize / (1 - first**step))


def _hinge(
    seen: Tensor,
    weight: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    confidence: float,
) -> tuple[Tensor, Tensor]:
    """The gradient of weight * max(0, margin + confidence), and the sum [N] in the brackets."""
    with torch.enable_grad():
        seen = seen.detach().requires_grad_()
        ahead = margin(predict(seen), labels, targeted) + confidence
        (slope,) = torch.autograd.grad((weight * ahead.clamp(min=0)).sum(), seen)
    return slope, ahead.detach()


def _wide(values: Tensor) -> Tensor:
    """[N] as [N,1,1,1]."""
    return values.view(-1, 1, 1, 1)
