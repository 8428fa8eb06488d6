"""Runs of APGD (Croce & Hein 2020b, algorithm 1): its steps, its momentum and its checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import Expectation, expectation, is_finite
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._predict import Predict, fooled_share, for_rows, per_draw
from advdenoise.noise import Noise

# From outputs [n,K] or [n,K,H,W] and the rows (int64 indices) of their images to losses [n].
RowLoss = Callable[[Tensor, Tensor], Tensor]
# The gradient in the outputs, from these, the rows and the share of the run's steps that are done.
OutputGradient = Callable[[Tensor, Tensor, float], Tensor]
# The share of a step that goes to the new point; the rest continues the step before.
MOMENTUM = 0.75
TINY = 1e-12


class Settings(NamedTuple):
    steps: int
    norm: str
    rho: float
    first: str
    drop: bool


@dataclass
class State:
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


class Search:
    """Runs of APGD on one batch, of the images that are still to be fooled.

    Args:
        runs: how many runs there are at most.
        output_gradient: gives the direction of the steps in the place of the gradient of the loss
            that is raised, which still decides on step sizes and on the best point.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        targeted: bool,
        predict: Predict,
        noise: Noise,
        iterates: Iterates,
        epsilon: float | Tensor,
        settings: Settings,
        runs: int = 1,
        output_gradient: OutputGradient | None = None,
    ):
        self._images, self._labels, self._targeted = images, labels, targeted
        self._predict, self._noise, self._iterates = predict, noise, iterates
        self._steps, self._norm, self._rho = settings.steps, settings.norm, settings.rho
        self._first, self._output_gradient = settings.first, output_gradient
        self._drop = settings.drop and len(per_draw(predict)) == 1
        epsilon = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device)
        self._epsilon = epsilon.expand(len(images), 1, 1, 1)
        self._lower, self._upper = limits(images, self._epsilon)
        self._last = torch.zeros_like(images)
        # The largest share of draws that any perturbation fooled
        self._share = images.new_zeros(len(images))
        self._step, self._total = 0, runs * self._steps
        self._attacked = self._rows = torch.arange(len(images), device=images.device)

    def leave_out_misclassified(self, tracked: RowLoss) -> None:
        """Do not attack images that are misclassified as they are; before the first run."""
        rows = self._rows
        result = self._evaluate(rows, self._images, self._predict, tracked, tracked, False)
        wrong = result.fooled >= 1
        self._share = result.fooled.to(self._share.dtype) * wrong
        skipped = wrong.nonzero().flatten()
        if len(skipped):
            parts = Expectation(*(v if v is None else v[skipped] for v in result))
            self._iterates.visit(None, parts, 0, self._total, skipped, final=True)
        self._attacked = self._rows = rows[~wrong]

    def run(self, raised: RowLoss, tracked: RowLoss, start: Tensor | None = None) -> None:
        """One run of the images that are not fooled yet.

        `start` are perturbations [N,C,H,W] of all images inside the ball; None for random ones.
        """
        if not len(self._rows):
            return
        state = self._start(raised, tracked, start)
        length, shortest, shorter = (
            max(int(share * self._steps), 1) for share in (0.22, 0.06, 0.03)
        )
        since = 0
        for step in range(1, self._steps + 1):
            self._move(state, MOMENTUM if step > 1 else 1.0)
            is_last = step == self._steps
            result = self._visit(state, raised, tracked, step, is_last)
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

        def evaluate(select: Predict, perturbation: Tensor) -> Expectation:
            inputs, network = self._images[rows] + perturbation, for_rows(select, rows)
            return self._evaluate(rows, inputs, network, tracked, tracked, False)

        chosen = self._iterates.choose(self._last, evaluate, rows)
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
        progress: float = 0.0,
    ) -> Expectation:
        output_gradient = self._output_gradient
        return expectation(
            inputs,
            network,
            lambda outputs: raised(outputs, rows),
            lambda outputs: fooled_share(outputs, self._labels[rows], self._targeted),
            tracked=None if tracked is raised else lambda outputs: tracked(outputs, rows),
            gradient=gradient,
            output_gradient=None
            if output_gradient is None
            else lambda outputs: output_gradient(outputs, rows, progress),
        )

    def _random_point(self) -> Tensor:
        """Perturbations on the boundary of the ball, as far as [0,1] allows."""
        rows, noise = self._rows, self._noise.take(self._rows)
        images = self._images[rows]
        if self._norm == "linf":
            point = noise.uniform(images, -1, 1).to(images.dtype)
            point = point / point.abs().amax((1, 2, 3), keepdim=True)
        else:
            point = noise.normal(images).to(images.dtype)
            point = point / _length(point)
        return (self._epsilon[rows] * point).clamp_(self._lower[rows], self._upper[rows])

    def _start(self, raised: RowLoss, tracked: RowLoss, start: Tensor | None) -> State:
        rows = self._rows
        images, epsilon = self._images[rows], self._epsilon[rows]
        lower, upper = self._lower[rows], self._upper[rows]
        point = self._random_point() if start is None else start[rows]
        network = for_rows(self._predict, rows)
        result = self._evaluate(rows, images + point, network, raised, tracked, True)
        self._iterates.visit(point, result, self._step, self._total, rows)
        self._note_share(rows, result)
        loss, gradient = result.loss, result.gradient
        assert gradient is not None
        return State(
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

    def _move(self, state: State, share: float) -> None:
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

    def _project(self, state: State, point: Tensor) -> Tensor:
        if self._norm == "l2":
            point.mul_((state.epsilon / _length(point).clamp(min=TINY)).clamp_(max=1))
        return point.clamp_(state.lower, state.upper)

    def _visit(
        self, state: State, raised: RowLoss, tracked: RowLoss, step: int, is_last: bool
    ) -> Expectation:
        """Evaluate the point after `step` steps of this run; the last gradient is not needed."""
        inputs, progress = state.images + state.current, step / self._steps
        result = self._evaluate(
            state.rows, inputs, state.network, raised, tracked, not is_last, progress
        )
        self._iterates.visit(
            state.current, result, self._step + step, self._total, state.rows, is_last
        )
        self._note_share(state.rows, result)
        return result

    def _note_share(self, rows: Tensor, result: Expectation) -> None:
        share = result.fooled.to(self._share.dtype)
        self._share[rows] = torch.maximum(self._share[rows], share)

    def _compare(self, state: State, result: Expectation) -> None:
        """Count rises of the loss, and keep the point with the highest one."""
        state.rises += result.loss > state.last_loss
        state.last_loss = result.loss
        better = (result.loss > state.best_loss).nonzero().flatten()
        state.best_loss[better] = result.loss[better]
        if result.gradient is not None:
            state.gradient = result.gradient
            state.best[better] = state.current[better]
            state.best_gradient[better] = result.gradient[better]

    def _keep_unfooled(self, state: State, result: Expectation) -> None:
        fooled = result.fooled >= 1
        if bool(fooled.any()):
            self._last[state.rows[fooled]] = state.current[fooled]
            state.keep((~fooled).nonzero().flatten())

    def _check(self, state: State, length: int) -> None:
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
