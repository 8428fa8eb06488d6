"""The gradient attacks of AutoAttack (Croce & Hein 2020b): APGD and its targeted form.

Each returns the perturbation: images + perturbation is the adversarial image, inside [0,1] and
inside the ball after every step. The step size is chosen for each image by its own losses, so that
images do not influence each other. Images that the network misclassifies (in all draws of one that
draws random numbers) are not attacked, their perturbation is 0.

Arguments and settings that both take:

    images: float [N,C,H,W] in [0,1].
    labels: int64 [N], the true classes. BadInput for masks.
    predict: images -> logits [N,K], differentiable, in eval mode, for any rows of the batch (by
        `take` if it draws random numbers). Losses, shares of draws that are fooled and gradients
        are means over its draws, new ones at each step.
    noise: one random stream per image.
    facts, select: see `_facts` and `_predict`. Steps are counted over all runs.
    epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
    steps: steps of each run.
    norm: of the ball, linf or l2.
    restarts: runs from different random starting points, of the images that are not fooled yet
        (in all draws).
    rho: the step size is halved where the loss rose in at most this share of the steps since the
        last check.
    returns: `fooled`, the last perturbation that fools the network, or else the one with the
        highest loss; `best`, the latter; `last`. Behind random numbers see `_iterates`.
    unfooled: what to return where no perturbation fools the network (more than half of the draws):
        what `returns` says (`best`), or 0 as in AutoAttack (`clean`).
    first: the loss that the first step has to exceed to count as a rise, `zero` as in AutoAttack's
        code, or that of the starting point (`start`). It makes no difference for losses above 0.
    drop: end an image's run when it is fooled, which leaves accuracies as they are and makes the
        perturbations weaker against other networks. Without effect behind random numbers.

An image whose gradient is not finite does not move in that step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advdenoise.attacks._ascent import cross_entropies
from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import Expectation, expectation, is_finite
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._predict import (
    Predict,
    competitors,
    fooled_share,
    for_rows,
    per_draw,
    refuse_masks,
)
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import Epsilon, PositiveInt, Returns, Share

# From outputs [n,K] and the rows (int64 indices) of their images in the batch to losses [n].
RowLoss = Callable[[Tensor, Tensor], Tensor]
# The share of a step that goes to the new point; the rest continues the step before.
MOMENTUM = 0.75
TINY = 1e-12


def apgd(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 100,
    loss: Literal["ce", "dlr", "margin"] = "ce",
    norm: Literal["linf", "l2"] = "linf",
    restarts: PositiveInt = 1,
    rho: Share = 0.75,
    returns: Returns = "fooled",
    unfooled: Literal["best", "clean"] = "best",
    first: Literal["zero", "start"] = "zero",
    drop: bool = False,
) -> Tensor:
    """APGD: ascent with momentum and a step size that halves itself (algorithm 1).

    Steps start with a length of 2 epsilon. After a decreasing number of steps each image is
    checked: its step size is halved, and its search goes on at its best point, where the loss rose
    too rarely, or where neither the step size nor the highest loss has changed since the last
    check. Checks are those of AutoAttack's code.

    Args:
        targeted: lower the loss of `labels`, the targets, instead of raising it.
        loss: `ce`, the cross-entropy; `margin`, max_{j != y} z_j - z_y; `dlr`, the margin divided
            by the difference of the largest and the third largest logit, which does not depend on
            the scale of the logits.

    Raises:
        BadInput: masks, or `dlr` with fewer than 3 classes.
    """
    refuse_masks(labels, "auto.apgd")
    losses = {"ce": cross_entropies, "dlr": _dlr, "margin": _lead}[loss]

    def raised(outputs: Tensor, rows: Tensor) -> Tensor:
        values = losses(outputs, labels[rows])
        return -values if targeted else values

    settings = _Settings(steps, norm, rho, first, drop)
    iterates = Iterates(images, returns, False, facts, select)
    search = _Search(images, labels, targeted, predict, noise, iterates, epsilon, settings)
    search.begin(raised, restarts)
    for _ in range(restarts):
        search.run(raised, raised)
    return search.result(raised, unfooled)


def apgd_t(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    loss: Literal["dlr", "margin"] = "dlr",
    norm: Literal["linf", "l2"] = "linf",
    restarts: PositiveInt = 1,
    rho: Share = 0.75,
    returns: Returns = "fooled",
    unfooled: Literal["best", "clean"] = "best",
    first: Literal["zero", "start"] = "zero",
    drop: bool = False,
) -> Tensor:
    """APGD to each of several classes in turn, for images that are not fooled yet (APGD-T).

    Targets are the classes with the largest logits of the clean image other than its label. An
    image is fooled by any class but its label. Which perturbation is the `best` is decided by the
    margin, which all targets share.

    Args:
        targets: number of classes, at most all others.
        loss: `dlr`, (z_t - z_y) divided by the difference of the largest logit and the mean of the
            third and fourth largest; `margin`, z_t - z_y, which also replaces `dlr` where there are
            fewer than 4 classes.

    Raises:
        BadInput: masks.
    """
    refuse_masks(labels, "auto.apgd_t")
    settings = _Settings(steps, norm, rho, first, drop)
    iterates = Iterates(images, returns, False, facts, select)
    search = _Search(images, labels, False, predict, noise, iterates, epsilon, settings)

    def tracked(outputs: Tensor, rows: Tensor) -> Tensor:
        return _lead(outputs, labels[rows])

    with torch.no_grad():
        classes = competitors(predict(images), labels, targets + 1)
    search.begin(tracked, restarts * classes.shape[1])
    for goals in classes.T:

        def raised(outputs: Tensor, rows: Tensor, goals: Tensor = goals) -> Tensor:
            return _lead_of_target(outputs, labels[rows], goals[rows], loss)

        for _ in range(restarts):
            search.run(raised, tracked)
    return search.result(tracked, unfooled)


def _lead(outputs: Tensor, labels: Tensor) -> Tensor:
    """The largest other output minus the label's: [N]."""
    label = labels[:, None]
    others = outputs.scatter(1, label, -torch.inf).amax(1)
    return others - outputs.gather(1, label)[:, 0]


def _dlr(outputs: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio (equation 6): [N]."""
    if outputs.shape[1] < 3:
        raise BadInput(
            f"settings.loss: dlr needs at least 3 classes, but the network has {outputs.shape[1]}; "
            "write loss: margin"
        )
    largest = outputs.topk(3, 1).values
    return _lead(outputs, labels) / (largest[:, 0] - largest[:, 2] + TINY)


def _lead_of_target(outputs: Tensor, labels: Tensor, goals: Tensor, loss: str) -> Tensor:
    """The target's output minus the label's, for `dlr` with its denominator (equation 7): [N]."""
    pair = outputs.gather(1, torch.stack([goals, labels], 1))
    lead = pair[:, 0] - pair[:, 1]
    if loss == "margin" or outputs.shape[1] < 4:
        return lead
    largest = outputs.topk(4, 1).values
    return lead / (largest[:, 0] - largest[:, 2:].mean(1) + TINY)


class _Settings(NamedTuple):
    steps: int
    norm: str
    rho: float
    first: str
    drop: bool


@dataclass
class _State:
    """A run of the images at `rows`: perturbations, gradients, losses and step sizes of each."""

    rows: Tensor
    network: Predict
    images: Tensor
    lower: Tensor
    upper: Tensor
    epsilon: Tensor
    current: Tensor
    previous: Tensor
    best: Tensor
    gradient: Tensor
    best_gradient: Tensor
    length: Tensor
    last_loss: Tensor
    best_loss: Tensor
    checked_loss: Tensor
    rises: Tensor
    halved: Tensor

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the images, at `rows` (int64 indices) of those here."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])
        self.network = for_rows(self.network, rows)


class _Search:
    """Runs of APGD on one batch, with the images that are still to be fooled (`rows`)."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        targeted: bool,
        predict: Predict,
        noise: Noise,
        iterates: Iterates,
        epsilon: float | Tensor,
        settings: _Settings,
    ):
        self._images, self._labels, self._targeted = images, labels, targeted
        self._predict, self._noise, self._iterates = predict, noise, iterates
        self._steps, self._norm, self._rho = settings.steps, settings.norm, settings.rho
        self._first = settings.first
        self._drop = settings.drop and len(per_draw(predict)) == 1
        epsilon = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device)
        self._epsilon = epsilon.expand(len(images), 1, 1, 1)
        self._lower, self._upper = limits(images, self._epsilon)
        self._last = torch.zeros_like(images)
        # The largest share of draws that any perturbation fooled
        self._share = images.new_zeros(len(images))
        self._step, self._total = 0, 0
        self._attacked = self._rows = torch.arange(len(images), device=images.device)

    def begin(self, tracked: RowLoss, runs: int) -> None:
        """Leave out the images that are misclassified as they are, before `runs` runs."""
        self._total = runs * self._steps
        rows = self._rows
        result = self._evaluate(rows, self._images, self._predict, tracked, tracked, False)
        wrong = result.fooled >= 1
        self._share = result.fooled.to(self._share.dtype) * wrong
        skipped = wrong.nonzero().flatten()
        if len(skipped):
            parts = Expectation(*(v if v is None else v[skipped] for v in result))
            self._iterates.visit(None, parts, 0, self._total, skipped, final=True)
        self._attacked = self._rows = rows[~wrong]

    def run(self, raised: RowLoss, tracked: RowLoss) -> None:
        """One run of the images that are not fooled yet."""
        if not len(self._rows):
            return
        state = self._start(raised, tracked)
        length, shortest, shorter = (
            max(int(share * self._steps), 1) for share in (0.22, 0.06, 0.03)
        )
        since = 0
        for step in range(1, self._steps + 1):
            self._move(state, MOMENTUM if step > 1 else 1.0)
            is_last = step == self._steps
            result = self._visit(state, raised, tracked, self._step + step, is_last)
            self._compare(state, result)
            if self._drop:
                self._keep_unfooled(state, result)
                if not len(state.rows):
                    break
            since += 1
            if since == length and not is_last:
                self._check(state, length)
                length, since = max(length - shorter, shortest), 0
        self._last[state.rows] = state.current
        self._step += self._steps
        self._rows = self._rows[self._share[self._rows] < 1]

    def result(self, tracked: RowLoss, unfooled: str) -> Tensor:
        """The perturbations [N,C,H,W] to return."""
        rows = self._attacked

        def judge(select: Predict, perturbation: Tensor) -> Expectation:
            inputs, network = self._images[rows] + perturbation, for_rows(select, rows)
            return self._evaluate(rows, inputs, network, tracked, tracked, False)

        chosen = self._iterates.choose(self._last, judge, rows)
        if unfooled == "clean":
            chosen[self._share <= 0.5] = 0
        return chosen

    def _evaluate(
        self,
        rows: Tensor,
        inputs: Tensor,
        network: Predict,
        raised: RowLoss,
        tracked: RowLoss,
        gradient: bool,
    ) -> Expectation:
        return expectation(
            inputs,
            network,
            lambda outputs: raised(outputs, rows),
            lambda outputs: fooled_share(outputs, self._labels[rows], self._targeted),
            tracked=None if tracked is raised else lambda outputs: tracked(outputs, rows),
            gradient=gradient,
        )

    def _start(self, raised: RowLoss, tracked: RowLoss) -> _State:
        """The state at a random point: on the boundary of the ball, as far as [0,1] allows."""
        rows, noise = self._rows, self._noise.take(self._rows)
        images, epsilon = self._images[rows], self._epsilon[rows]
        if self._norm == "linf":
            point = noise.uniform(images, -1, 1).to(images.dtype)
            point = point / point.abs().amax((1, 2, 3), keepdim=True)
        else:
            point = noise.normal(images).to(images.dtype)
            point = point / _length(point)
        lower, upper = self._lower[rows], self._upper[rows]
        point = (epsilon * point).clamp_(lower, upper)
        network = for_rows(self._predict, rows)
        result = self._evaluate(rows, images + point, network, raised, tracked, True)
        self._iterates.visit(point, result, self._step, self._total, rows)
        self._note_share(rows, result)
        loss, gradient = result.loss, result.gradient
        assert gradient is not None
        return _State(
            rows=rows,
            network=network,
            images=images,
            lower=lower,
            upper=upper,
            epsilon=epsilon,
            current=point,
            previous=point,
            best=point.clone(),
            gradient=gradient,
            best_gradient=gradient.clone(),
            length=2 * epsilon,
            last_loss=torch.zeros_like(loss) if self._first == "zero" else loss.clone(),
            best_loss=loss.nan_to_num(-torch.inf),
            checked_loss=loss.nan_to_num(-torch.inf),
            rises=torch.zeros_like(loss),
            halved=torch.ones_like(loss, dtype=torch.bool),
        )

    def _move(self, state: _State, share: float) -> None:
        """A step along the gradient, which also continues the step before."""
        finite = is_finite(state.gradient)
        length = state.length * finite
        if self._norm == "linf":
            point = state.gradient.sign().mul_(length)  # the sign of NaN is 0
        else:
            point = (state.gradient / (_length(state.gradient) + TINY)).mul_(length)
            point = point.where(finite, 0)
        point = self._project(state, point.add_(state.current))
        if share < 1:
            step = point.sub_(state.current).mul_(share)
            step.add_(state.current - state.previous, alpha=1 - share).mul_(finite)
            point = self._project(state, step.add_(state.current))
        state.previous, state.current = state.current, point

    def _project(self, state: _State, point: Tensor) -> Tensor:
        if self._norm == "l2":
            point.mul_((state.epsilon / _length(point).clamp(min=TINY)).clamp_(max=1))
        return point.clamp_(state.lower, state.upper)

    def _visit(
        self, state: _State, raised: RowLoss, tracked: RowLoss, step: int, is_last: bool
    ) -> Expectation:
        """Evaluate the current point; the gradient after the last step is not needed."""
        inputs = state.images + state.current
        result = self._evaluate(state.rows, inputs, state.network, raised, tracked, not is_last)
        self._iterates.visit(state.current, result, step, self._total, state.rows, is_last)
        self._note_share(state.rows, result)
        return result

    def _note_share(self, rows: Tensor, result: Expectation) -> None:
        share = result.fooled.to(self._share.dtype)
        self._share[rows] = torch.maximum(self._share[rows], share)

    def _compare(self, state: _State, result: Expectation) -> None:
        """Count rises of the loss, and keep the point with the highest one."""
        state.rises += result.loss > state.last_loss
        state.last_loss = result.loss
        better = (result.loss > state.best_loss).nonzero().flatten()
        state.best_loss[better] = result.loss[better]
        if result.gradient is not None:
            state.gradient = result.gradient
            state.best[better] = state.current[better]
            state.best_gradient[better] = result.gradient[better]

    def _keep_unfooled(self, state: _State, result: Expectation) -> None:
        fooled = result.fooled >= 1
        if bool(fooled.any()):
            self._last[state.rows[fooled]] = state.current[fooled]
            state.keep((~fooled).nonzero().flatten())

    def _check(self, state: _State, length: int) -> None:
        """Halve the step size of images that no longer gain, which go on at their best point."""
        halve = state.rises <= self._rho * length
        halve |= ~state.halved & (state.checked_loss >= state.best_loss)
        state.rises.zero_()
        state.halved, state.checked_loss = halve, state.best_loss.clone()
        rows = halve.nonzero().flatten()
        state.length[rows] /= 2
        # In place, for `previous` is another tensor: the next step continues the way to `best`.
        state.current[rows] = state.best[rows]
        state.gradient[rows] = state.best_gradient[rows]


def _length(values: Tensor) -> Tensor:
    """The L2 norm of each image: [N,1,1,1]."""
    return torch.linalg.vector_norm(values, 2, (1, 2, 3), keepdim=True)
