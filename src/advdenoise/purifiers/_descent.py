"""Gradient descent on a loss of the reconstruction error of each image.

The images of a batch do not influence each other: losses are per image and summed, and Adam keeps
moments and a learning rate for each image.

The descent is differentiable. Where autograd is enabled and the images require a gradient, each
step is checkpointed: it keeps its inputs only and is computed again, with the graph of its inner
gradient, in the backward pass. That takes memory for one step's graph instead of all, and one more
pass of the denoiser per step. Otherwise no graph outlives a step. The denoiser's weights get no
gradient. Layers that can be differentiated only once (the fast ELU) raise their own error in the
backward pass.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advdenoise.purifiers._checks import check_images

ImageFunction = Callable[[Tensor], Tensor]
ErrorFunction = Callable[[Tensor], Tensor]  # [N] -> [N]
State = tuple[Tensor, ...]  # the images, then what an update rule stores for each

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
# Added under Adam's root: far below its epsilon, and keeps the root's derivative finite at 0.
_TINY = 1e-36


class Gradient(NamedTuple):
    """Update rule: steps of `rate` times the gradient, or times its sign."""

    rate: float
    sign: bool = False

    def start(self, images: Tensor) -> State:
        return ()

    def step(self, number: int, images: Tensor, gradient: Tensor, error: Tensor) -> State:
        return (images.sub(gradient.sign() if self.sign else gradient, alpha=self.rate),)


class Adam(NamedTuple):
    """Update rule: Adam (Kingma and Ba 2015) with the rate times `scale` of the image's error.

    The error is that before the first step, or before each step if `each_step`.
    """

    rate: float
    scale: ErrorFunction | None = None
    each_step: bool = False

    def start(self, images: Tensor) -> State:
        return torch.zeros_like(images), torch.zeros_like(images)

    def step(
        self,
        number: int,
        images: Tensor,
        gradient: Tensor,
        error: Tensor,
        mean: Tensor,
        square: Tensor,
        *scale: Tensor,
    ) -> State:
        """The images after the step, both moments and, unless `each_step`, the scale [N,1,1,1]."""
        mean = mean.lerp(gradient, 1 - _BETA1)
        square = (_BETA2 * square).addcmul_(gradient, gradient, value=1 - _BETA2)
        # The bias corrections are factors outside of the root, which saves passes over the images.
        correction = math.sqrt(1 - _BETA2**number)
        size = (square + _TINY).sqrt() + correction * _EPSILON
        rate = self.rate * correction / (1 - _BETA1**number)
        if self.scale is None:
            return images.addcdiv(mean, size, value=-rate), mean, square
        current = scale[0] if scale else self.scale(error).view(-1, 1, 1, 1)
        moved = images.addcdiv(current * mean, size, value=-rate)
        return moved, mean, square, *(() if self.each_step else (current,))


def descend(
    images: Tensor,
    error: ImageFunction,
    steps: int,
    rule: Gradient | Adam,
    *,
    loss: ErrorFunction = lambda error: error,
    add_noise: Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]] | None = None,
    random_transform: Callable[[Tensor], ImageFunction] | None = None,
) -> Tensor:
    """The images after `steps` steps of the rule on loss(error(images)), clipped to [0,1].

    Args:
        images: [N,C,H,W] in [0,1].
        error: images -> reconstruction error [N]; twice differentiable if the result is to be
            differentiated.
        loss: errors -> losses, both [N].
        add_noise: draws random numbers for the images of a step; the function that it returns maps
            images and their errors to noisy images, after the gradient has been computed.
        random_transform: draws random numbers for the images of a step; the function that it
            returns transforms images before the gradient is computed.

    Raises:
        BadInput: an empty batch, values that are not finite or outside [0,1].
    """
    check_images(images)
    differentiable = torch.is_grad_enabled() and images.requires_grad
    state: State = (images, *rule.start(images))
    batch: Tensor | None = None
    moving: Tensor | None = None
    for number in range(1, steps + 1):
        noisy = add_noise(state[0]) if add_noise else None
        transform = random_transform(state[0]) if random_transform else None
        step = _step(number, error, loss, rule, noisy, transform)
        state = run_step(step, state, differentiable)
        if number == 1 and len(state) > 1 and not (add_noise or random_transform):
            batch, (moving, state) = state[0], _only_moving(state)
            if moving is not None and not len(moving):
                break
    result = state[0] if moving is None or batch is None else batch.index_put((moving,), state[0])
    return result.clamp(0, 1)


def _step(
    number: int,
    error: ImageFunction,
    loss: ErrorFunction,
    rule: Any,
    noisy: Callable[[Tensor, Tensor], Tensor] | None,
    transform: ImageFunction | None,
) -> Callable[..., State]:
    """A step as a deterministic function of the state: its random numbers are already drawn."""

    def step(images: Tensor, *moments: Tensor) -> State:
        if transform:
            images = transform(images)
        errors, gradient = _errors_and_gradient(images, error, loss)
        if noisy:
            images = noisy(images, errors)
        return rule.step(number, images, gradient, errors, *moments)

    return step


def _errors_and_gradient(
    images: Tensor, error: ImageFunction, loss: ErrorFunction
) -> tuple[Tensor, Tensor]:
    """The errors [N] and the gradient of their losses, with a graph if one is required."""
    differentiable = torch.is_grad_enabled() and images.requires_grad
    with torch.enable_grad():
        inputs = images if differentiable else images.detach().requires_grad_()
        errors = error(inputs)
        total = loss(errors).sum()
        (gradient,) = torch.autograd.grad(total, inputs, create_graph=differentiable)
    return errors if differentiable else errors.detach(), gradient


def _only_moving(state: State) -> tuple[Tensor | None, State]:
    """Indices and state of the images that still move; None instead of the indices of all.

    Adam never moves an image whose first gradient is 0: the image stays, and so does its gradient.
    """
    moves = state[1].flatten(1).any(1)
    if moves.all():
        return None, state
    rows = moves.nonzero().flatten()
    # Indexing, also to put them back, since index_select would lose channels-last.
    return rows, tuple(part[rows] for part in state)


def run_step(step: Callable[..., State], state: State, differentiable: bool) -> State:
    """The state after a step, which is checkpointed if the result is to be differentiated."""
    if differentiable:
        return _Checkpoint.apply(step, *state)
    with torch.no_grad():
        return step(*state)


class _Checkpoint(torch.autograd.Function):
    """A step that stores its inputs only and is computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, step: Callable[..., State], *state: Tensor) -> State:
        ctx.step = step
        ctx.save_for_backward(*state)
        return step(*state)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        if torch.is_grad_enabled():
            raise RuntimeError("a gradient through a purifier cannot be differentiated itself")
        with torch.enable_grad():
            state = [part.detach().requires_grad_() for part in ctx.saved_tensors]
            after = ctx.step(*state)
            # A sum: torch's handling of several gradients imports sympy, which takes two seconds.
            total = sum((part * down).sum() for part, down in zip(after, gradients, strict=True))
        return None, *torch.autograd.grad(total, state, allow_unused=True)
