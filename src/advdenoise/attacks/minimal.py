"""Minimal-norm attacks: they search for the smallest perturbation that succeeds.

Each returns a finite perturbation with images + perturbation inside [0,1]. An attack succeeds on an
image that is misclassified, or classified as the target. Where it has succeeded from the start the
perturbation is 0. Outputs that are not finite predict no class: the image is misclassified, and no
target is reached. Images do not influence each other; finished ones leave the batch, which affects
the time only.

Arguments:

    images: float [N,C,H,W] in [0,1].
    labels: int64 [N], the true classes, or the targets if `targeted`.
    predict: images -> outputs [N, classes], differentiable, in eval mode, for any rows of the batch
        (by `take` if it draws random numbers). Only differences of outputs matter, which may be
        logits, as in the papers on the attacks, or probabilities, as in Al Bared and
        Nassar 2021.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor

from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import expectation, is_finite
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._hyperplane import project_linf
from advdenoise.attacks._predict import (
    Predict,
    competitors,
    fooled_share,
    for_rows,
    margin,
    per_draw,
    refuse_masks,
)
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.outputs import predicted
from advdenoise.ranges import (
    Epsilon,
    Interval,
    NonNegativeFloat,
    NonNegativeInt,
    Pixel,
    PositiveFloat,
    PositiveInt,
    Probability,
    Share,
)

Hinge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# Betas and epsilon of Adam (Kingma & Ba 2015).
BETAS, TINY = (0.9, 0.999), 1e-8
# Pixels are scaled by this before atanh, so that black and white stay finite in tanh space.
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

    Algorithm 2, with section 3.3 for other norms, in foolbox's form. Competing classes are the
    `candidates` - 1 with the largest outputs on the clean image, without the label. Each step goes
    to the one at the smallest distance |f| / |w|, with f = its output - the label's and w the
    gradient of f, and has the length of that distance + 1e-4. The perturbation is (1 + `overshoot`)
    times the sum of the steps, clipped to [0,1]. An image stops when it is misclassified, after
    `steps` steps, or when all its gradients are zero or not finite.

    Args:
        norm: the norm to minimise, linf or l2.
        steps: maximum number of steps.
        candidates: number of classes considered, the label included; at least 2.
        overshoot: factor by which the boundary is overstepped.
        epsilon: if set, every final perturbation is projected into the ball of this radius (pixel
            units, a number or [N,1,1,1]): clipped (linf) or scaled (l2).

    Raises:
        BadInput: unknown norm, fewer than 2 candidates, or masks.
    """
    refuse_masks(labels, "minimal.deepfool")
    if norm not in ("linf", "l2"):
        raise BadInput(f"settings.norm: must be linf or l2, got {norm!r}")
    if candidates < 2:
        raise BadInput(f"settings.candidates: must be at least 2, got {candidates}")
    lower, upper = limits(images, math.inf)
    total, perturbation = torch.zeros_like(images), torch.zeros_like(images)
    with torch.no_grad():
        outputs = predict(images)
    others = competitors(outputs, labels, candidates)
    rows = (predicted(outputs) == labels).nonzero().flatten()
    for _ in range(steps):
        if not len(rows):
            break
        inputs = images[rows] + perturbation[rows]
        network = for_rows(predict, rows)
        step = _to_boundary(inputs, labels[rows], others[rows], network, norm)
        # An image that does not move would have the same gradient in all further steps.
        moved = step.flatten(1).any(1)
        rows = rows[moved]
        if not len(rows):
            break
        total[rows] += step[moved]
        scaled = (1 + overshoot) * total[rows]
        perturbation[rows] = scaled.clamp_(lower[rows], upper[rows])
        # This forward pass saves the backward passes of all images that are misclassified.
        with torch.no_grad():
            outputs = for_rows(predict, rows)(images[rows] + perturbation[rows])
        rows = rows[predicted(outputs) == labels[rows]]
    return perturbation if epsilon is None else _project(perturbation, images, epsilon, norm)


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
    """The C&W attack: a minimal L2 perturbation by Adam in tanh space (Carlini & Wagner 2017).

    Section VI-A, in foolbox's form. With pixels x = (tanh(w) + 1) / 2, Adam minimises
    |x - image|^2 + c max(0, m + `confidence`), where m is the output of the label minus the largest
    other one, the opposite if `targeted`. The attack succeeds where m + `confidence` < 0, and the
    closest successful image of all steps is returned. The constant c is searched for each image: it
    starts at `initial_const`, is multiplied by 10 until the attack succeeds and then bisected
    between the largest value that failed and the smallest that succeeded; of 10 or more searches
    the last repeats the smallest that succeeded. Elements whose gradient is not finite do not move.

    Args:
        binary_search_steps: number of values of c.
        steps: steps of Adam for each c.
        stepsize: learning rate of Adam, in tanh space.
        initial_const: the first c.
        confidence: margin to be exceeded.
        unit: unit of the distance, in pixel units, for constants that a paper gives for another
            scale of the images. The attack on z-scored images is this one with `unit` the standard
            deviation: tanh space is the same for all bounds, so the scale only enters as
            |x - image|^2 / unit^2. (Dividing c by unit^2 instead is not quite the same, because of
            the 1e-8 in Adam's denominator.)
        fill: pixel value in [0,1] that replaces every pixel of an image on which the attack fails;
            by default its perturbation is 0. foolbox returns 0 in the model's own scale, which in
            Al Bared and Nassar 2021 is the grey 120.70748/255.
        abort_early: end an image's search for one c if its objective has not decreased by 0.01 %
            since the last check, a tenth of `steps` ago. foolbox does so by default, but with the
            sum over the batch, so that an image's result depends on the others; it was measured to
            increase the distance by 8 to 12 %.

    Raises:
        BadInput: masks.
    """
    refuse_masks(labels, "minimal.carlini_wagner")
    with torch.no_grad():
        succeeded = margin(predict(images), labels, targeted) + confidence < 0
    perturbation = torch.zeros_like(images)
    rows = (~succeeded).nonzero().flatten()
    if not len(rows):
        return perturbation
    clean = images[rows]
    hinge = functools.partial(
        _hinge,
        labels=labels[rows],
        targeted=targeted,
        predict=for_rows(predict, rows),
        confidence=confidence,
    )
    best, distance = clean.clone(), torch.full_like(clean[:, 0, 0, 0], math.inf)
    const = torch.full_like(distance, initial_const, dtype=torch.float64)
    low, high = torch.zeros_like(const), torch.full_like(const, math.inf)
    for search in range(1, binary_search_steps + 1):
        if search == binary_search_steps >= 10:
            const = high.clamp(max=1e10)
        succeeded = torch.zeros_like(distance, dtype=torch.bool)
        early_stop = _EarlyStop(steps, distance) if abort_early else None
        for inputs, length, success, loss in _descend(clean, hinge, const, unit, steps, stepsize):
            if early_stop:
                success = success & early_stop.update(loss)
                if not early_stop.running.any():
                    break
            closer = success & (length < distance)
            torch.where(_unsqueeze(closer), inputs, best, out=best)
            torch.where(closer, length, distance, out=distance)
            succeeded |= success
        high, low = torch.where(succeeded, const, high), torch.where(succeeded, low, const)
        const = torch.where(high.isinf(), const * 10, (low + high) / 2)
    if fill is not None:
        best[distance.isinf()] = fill
    perturbation[rows] = (best - clean).clamp_(*limits(clean, math.inf))
    return perturbation


def fab_t(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    *,
    epsilon: Epsilon | Tensor | None = None,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    restarts: PositiveInt = 1,
    alpha_max: Probability = 0.1,
    eta: Annotated[float, Interval(ge=1, le=10)] = 1.05,
    beta: Share = 0.9,
    search: NonNegativeInt = 0,
    clip: bool = False,
) -> Tensor:
    """The targeted FAB attack in the L-infinity norm (Croce and Hein 2020, as in AutoAttack).

    Targets are the `targets` classes with the largest outputs on the clean image beside the label,
    one run after the other. A step linearises f = the target's output - the label's at the iterate
    and projects the iterate and the image onto f = 0 inside [0,1], by d1 and d2. It goes to
    (1 - a) (iterate + `eta` d1) + a (image + `eta` d2), clipped to [0,1], where a is
    |d1| / (|d1| + |d2|), at most `alpha_max`. A misclassified iterate is kept if it is the nearest
    one so far, whatever its class, and moves back to image + `beta` (iterate - image). An image
    does not move in a step whose gradient is not finite.

    No losses are compared, so scaled logits make no difference. Behind a purifier that draws random
    numbers, f is the mean over the draws, and an iterate is misclassified if more than half are.

    Args:
        noise: one random stream per image, for `restarts`.
        facts: records the first step that is misclassified inside the ball, and the result.
        epsilon: radius in pixel units, a number or [N,1,1,1]. An image with a perturbation inside
            has no further runs, and a larger perturbation is replaced by 0. If null, all images
            have all runs, and perturbations of any size are returned.
        steps: number of steps of a run.
        targets: number of target classes; all other classes if there are fewer.
        restarts: runs for each target. All but the first start at a random point at half the
            distance of the nearest misclassified one, at most `epsilon` / 2 (0.15 if it is null).
        alpha_max: largest weight of the image in a step.
        eta: factor by which the hyperplane is overstepped.
        beta: share of the perturbation that remains once the iterate is misclassified.
        search: rounds of a final search on the line from the image to its nearest misclassified
            point: the next point is where f would be 0 if it were linear between the ends, and
            replaces the end that is classified like it. AutoAttack has none; the authors' own code
            offers 3.
        clip: clip perturbations larger than `epsilon` instead of replacing them by 0.

    Raises:
        BadInput: masks.
    """
    refuse_masks(labels, "minimal.fab_t")
    with torch.no_grad():
        outputs = predict(images)
    correct = predicted(outputs) == labels
    nearest = _Nearest(images, math.inf if epsilon is None else epsilon)
    start_radius = _per_image(0.3 if epsilon is None else epsilon, images)
    others = competitors(outputs, labels, targets + 1)
    fab = functools.partial(_fab_run, steps=steps, alpha_max=alpha_max, eta=eta, beta=beta)
    _record(facts, ~correct, 0)
    runs = itertools.product(others.unbind(1), range(restarts))
    for number, (classes, restart) in enumerate(runs):
        running = correct if epsilon is None else correct & ~nearest.is_inside()
        rows = running.nonzero().flatten()
        if not len(rows):
            break
        start = torch.zeros_like(images[rows])
        if restart:
            half = torch.minimum(nearest.distance, start_radius)[rows] / 2
            start = _on_sphere(start, half, noise.take(rows))
        pair = torch.stack([labels[rows], classes[rows]], 1)
        run = fab(images[rows], pair, start, for_rows(predict, rows))
        for step, (perturbation, misclassified) in enumerate(run, number * steps + 1):
            nearest.update(rows, perturbation, misclassified)
            _record(facts, nearest.is_inside(), step)
    if search:
        _search_line(images, labels, outputs, predict, nearest, search)
    last = others.shape[1] * restarts * steps
    _record(facts, nearest.is_inside() | ~correct, last, final=True)
    result = nearest.perturbation
    if not clip:
        result = result.where(_unsqueeze(nearest.is_inside()), 0)
    return result.clamp(*limits(images, nearest.radius.view(-1, 1, 1, 1)))


def _record(facts: Facts | None, misclassified: Tensor, step: int, final: bool = False) -> None:
    """Record a step's misclassification [N]; no losses, since FAB compares none."""
    if facts is not None:
        losses = torch.full(misclassified.shape, math.nan, device=misclassified.device)
        facts.record(step, step, losses, misclassified.float(), final)


class _Nearest:
    """The nearest misclassified perturbation of each image in the L-infinity norm.

    `perturbation` [N,C,H,W] is 0 and `distance` [N] infinite where there is none.
    """

    def __init__(self, images: Tensor, radius: float | Tensor):
        self.perturbation = torch.zeros_like(images)
        self.distance = images.new_full((len(images),), math.inf)
        self.radius = _per_image(radius, images)

    def update(self, rows: Tensor, perturbation: Tensor, misclassified: Tensor) -> None:
        """Keep the perturbations of some rows that are misclassified and nearer."""
        distance = _linf(perturbation)
        closer = misclassified & (distance < self.distance[rows])
        self.perturbation[rows[closer]] = perturbation[closer]
        self.distance[rows[closer]] = distance[closer]

    def is_inside(self) -> Tensor:
        """Whether there is one in the ball of this radius: bool [N]."""
        return self.distance.isfinite() & (self.distance <= self.radius)


def _fab_run(
    images: Tensor,
    pair: Tensor,
    perturbation: Tensor,
    predict: Predict,
    steps: int,
    alpha_max: float,
    eta: float,
    beta: float,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run FAB for pairs of label and target [N,2]; yield perturbations and misclassification."""
    expect = functools.partial(
        expectation,
        predict=predict,
        loss=lambda outputs: outputs.gather(1, pair).diff(dim=1)[:, 0],
        fooled=lambda outputs: fooled_share(outputs, pair[:, 0], targeted=False),
    )
    draws = len(per_draw(predict))
    for _ in range(steps):
        lead, _, _, gradient = expect(images + perturbation)
        assert gradient is not None
        lead, gradient = lead.to(images.dtype), gradient / draws
        perturbation = _fab_step(images, perturbation, lead, gradient, alpha_max, eta)
        misclassified = expect(images + perturbation, gradient=False).fooled > 0.5
        yield perturbation, misclassified
        perturbation = torch.where(_unsqueeze(misclassified), beta * perturbation, perturbation)


def _fab_step(
    images: Tensor,
    perturbation: Tensor,
    lead: Tensor,
    gradient: Tensor,
    alpha_max: float,
    eta: float,
) -> Tensor:
    """The next perturbation of each image; the same where lead or gradient are not finite."""
    finite = is_finite(gradient) & _unsqueeze(lead.isfinite())
    normals = gradient.where(finite, 0).flatten(1)
    lead = lead.where(finite.flatten(), 0)
    moved = perturbation.flatten(1)
    from_iterate = project_linf((images + perturbation).flatten(1), normals, lead)
    lead_of_image = lead - (normals * moved).sum(1)
    from_image = project_linf(images.flatten(1), normals, lead_of_image)
    lengths = [_linf(move).clamp(min=1e-8)[:, None] for move in (from_iterate, from_image)]
    alpha = (lengths[0] / (lengths[0] + lengths[1])).clamp(max=alpha_max)
    step = (1 - alpha) * (moved + eta * from_iterate) + alpha * eta * from_image
    step = step.view_as(perturbation).clamp(*limits(images, math.inf))
    return step.where(finite, perturbation)


def _search_line(
    images: Tensor,
    labels: Tensor,
    outputs: Tensor,
    predict: Predict,
    nearest: _Nearest,
    rounds: int,
) -> None:
    """Search between each image, of these `outputs`, and its nearest misclassified point."""
    rows = nearest.distance.isfinite().nonzero().flatten()
    if not len(rows):
        return
    network, clean, own = for_rows(predict, rows), images[rows], labels[rows]

    @torch.no_grad()
    def evaluate(perturbation: Tensor) -> Tensor:
        return network(clean + perturbation)

    right, wrong = torch.zeros_like(clean), nearest.perturbation[rows]
    right_outputs, wrong_outputs = outputs[rows], evaluate(wrong)
    for _ in range(rounds):
        pair = torch.stack([own, wrong_outputs.argmax(1)], 1)
        ahead = right_outputs.gather(1, pair).diff(dim=1).neg()
        behind = wrong_outputs.gather(1, pair).diff(dim=1)
        share = ahead / (ahead + behind + 1e-10)
        share = share.where((share >= 0) & (share <= 1), 1).to(clean.dtype)
        middle = right + share.view(-1, 1, 1, 1) * (wrong - right)
        middle.clamp_(*limits(clean, math.inf))
        middle_outputs = evaluate(middle)
        misclassified = predicted(middle_outputs) != own
        nearest.update(rows, middle, misclassified)
        at_image = _unsqueeze(~misclassified)
        right, wrong = right.where(~at_image, middle), wrong.where(at_image, middle)
        at_image = at_image.flatten(1)
        right_outputs = right_outputs.where(~at_image, middle_outputs)
        wrong_outputs = wrong_outputs.where(at_image, middle_outputs)


def _on_sphere(like: Tensor, radius: Tensor, noise: Noise) -> Tensor:
    """Random perturbations of these L-infinity norms [N]."""
    drawn = noise.uniform(like, -1, 1).to(like.dtype)
    return drawn * _unsqueeze(radius / _linf(drawn).clamp(min=1e-12))


def _linf(values: Tensor) -> Tensor:
    return values.flatten(1).abs().amax(1)


def _per_image(value: float | Tensor, images: Tensor) -> Tensor:
    """A number or [N,1,1,1] as [N]."""
    value = torch.as_tensor(value, dtype=images.dtype, device=images.device)
    return value.flatten().expand(len(images))


class _EarlyStop:
    """Stops images whose objective no longer decreases, checked after each tenth of the steps."""

    def __init__(self, steps: int, like: Tensor):
        self._every, self._step = math.ceil(steps / 10), 0
        self._loss = torch.full_like(like, math.inf)
        self.running = torch.ones_like(like, dtype=torch.bool)

    def update(self, loss: Tensor) -> Tensor:
        """Whether each image is still running after this step with objective `loss`: bool [N]."""
        if self._step % self._every == 0:
            self.running &= loss <= 0.9999 * self._loss
            self._loss = loss
        self._step += 1
        return self.running


def _to_boundary(
    images: Tensor, labels: Tensor, competitors: Tensor, predict: Predict, norm: str
) -> Tensor:
    """The step of each image across the nearest linearised boundary; 0 if there is none."""
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        outputs = predict(inputs)
        leads = outputs.gather(1, competitors) - outputs.gather(1, labels[:, None])
        totals = leads.sum(0).unbind()
    nearest, dual_norm = inputs.new_full((len(inputs),), math.inf), inputs.new_ones(len(inputs))
    direction = torch.zeros_like(inputs)
    for i, total in enumerate(totals):
        (gradient,) = torch.autograd.grad(total, inputs, retain_graph=i + 1 < len(totals))
        # The distance in a norm is |f| divided by the dual norm of the gradient.
        size = gradient.flatten(1).norm(1 if norm == "linf" else 2, dim=1) + 1e-8
        distance = leads[:, i].detach().abs().to(inputs.dtype) / size
        closer = (distance < nearest) & size.isfinite()
        nearest, dual_norm = nearest.where(~closer, distance), dual_norm.where(~closer, size)
        direction = direction.where(~_unsqueeze(closer), gradient)
    nearest = (nearest + 1e-4).where(nearest.isfinite(), 0)
    if norm == "linf":
        return direction.sign_().mul_(_unsqueeze(nearest))
    return direction.mul_(_unsqueeze(nearest / dual_norm))


def _project(perturbation: Tensor, images: Tensor, epsilon: float | Tensor, norm: str) -> Tensor:
    if norm == "l2":
        length = _unsqueeze(perturbation.flatten(1).norm(dim=1))
        perturbation = perturbation * (epsilon / length.clamp(min=1e-12)).clamp(max=1)
    return perturbation.clamp(*limits(images, epsilon)).to(images.dtype)


def _descend(
    images: Tensor, hinge: Hinge, const: Tensor, unit: float, steps: int, stepsize: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Run Adam in tanh space; yield images [N,C,H,W], distances, success and objectives [N].

    Objectives are multiplied by unit^2. The gradient is that of 2 unit^2 times the objective, which
    saves passes over memory; `TINY`, the only place where Adam depends on the gradient's scale, is
    multiplied accordingly.
    """
    half = images.new_tensor(0.5)
    w = (images * 2).sub_(1).mul_(SHRINK).atanh_()
    start = w.tanh()
    weight = (const * unit**2).to(images.dtype)
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    beta1, beta2 = BETAS
    for step in range(1, steps + 1):
        tanh_w = w.tanh()
        change = tanh_w - start
        inputs = torch.add(half, tanh_w, alpha=0.5)
        gradient, excess = hinge(inputs, weight)
        length = change.flatten(1).norm(dim=1).mul_(0.5)
        yield inputs, length, excess < 0, length.square() + weight * excess.clamp(min=0)
        gradient = gradient.nan_to_num(0, 0, 0).add_(change)
        gradient = torch.ops.aten.tanh_backward(gradient, tanh_w)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = square.div(1 - beta2**step).sqrt_().add_(TINY * 2 * unit**2)
        w.addcdiv_(mean, size, value=-stepsize / (1 - beta1**step))


def _hinge(
    images: Tensor,
    weight: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    confidence: float,
) -> tuple[Tensor, Tensor]:
    """The input gradient of weight * max(0, margin + confidence), and margin + confidence [N]."""
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        excess = margin(predict(inputs), labels, targeted) + confidence
        (gradient,) = torch.autograd.grad((weight * excess.clamp(min=0)).sum(), inputs)
    return gradient, excess.detach()


def _unsqueeze(values: Tensor) -> Tensor:
    """[N] -> [N,1,1,1]."""
    return values.view(-1, 1, 1, 1)
