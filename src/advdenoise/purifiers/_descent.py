"""Images led, step by step, to where a loss of their reconstruction error is smaller.

The images of a batch never influence each other: losses are per image and summed, Adam's state and
rate belong to an image.

The way is differentiable. Where autograd is on and the images ask for a gradient, each step keeps
its inputs only and is made again, with the graph of its inner gradient, when the gradient comes
back: memory for one step's graph instead of all, for one more pass of the denoiser per step.
Otherwise no graph outlives a step. Weights of the denoiser get no gradient. Layers that can be
differentiated once only (the fast ELU) stop an outer gradient with their own error.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advdenoise.purifiers._checks import check_images

OfImages = Callable[[Tensor], Tensor]
OfErrors = Callable[[Tensor], Tensor]  # [N] -> [N]
State = tuple[Tensor, ...]  # the images, then what a rule keeps of each

_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8
# Under Adam's root: far below its epsilon, and the root's derivative stays finite at 0.
_TINY = 1e-36


class Gradient(NamedTuple):
    """Steps of `rate` times the gradient, or times its sign."""

    rate: float
    sign: bool = False

    def start(self, images: Tensor) -> State:
        return ()

    def step(self, number: int, images: Tensor, gradient: Tensor, error: Tensor) -> State:
        return (images.sub(gradient.sign() if self.sign else gradient, alpha=self.rate),)


class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015), its rate times `scale` of the image's error.

    The error is that of the first step, or that of each one if `each_step`.
    """

    rate: float
    scale: OfErrors | None = None
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
        """The images after the step and what is kept: both moments, a first scale [N,1,1,1]."""
        mean = mean.lerp(gradient, 1 - _MEAN_DECAY)
        square = (_SQUARE_DECAY * square).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
        # The corrections, numbers, are taken out of the root: fewer passes over the images.
        correction = math.sqrt(1 - _SQUARE_DECAY**number)
        size = (square + _TINY).sqrt() + correction * _EPSILON
        rate = self.rate * correction / (1 - _MEAN_DECAY**number)
        if self.scale is None:
            return images.addcdiv(mean, size, value=-rate), mean, square
        now = scale[0] if scale else self.scale(error).view(-1, 1, 1, 1)
        moved = images.addcdiv(now * mean, size, value=-rate)
        return moved, mean, square, *(() if self.each_step else (now,))


def descend(
    images: Tensor,
    error: OfImages,
    steps: int,
    rule: Gradient | Adam,
    *,
    loss: OfErrors = lambda error: error,
    shake: Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]] | None = None,
    turn: Callable[[Tensor], OfImages] | None = None,
) -> Tensor:
    """Images after `steps` steps of the rule on loss(error(images)), clipped to [0,1].

    Args:
        images: [N,C,H,W] in [0,1].
        error: images -> reconstruction error [N], differentiable, twice if a gradient is asked for.
        loss: of the errors.
        shake: draws for these images; the function it gives changes images of these errors after
            the gradient is taken.
        turn: draws for these images; the function it gives moves them before the gradient is taken.

    Raises:
        BadInput: an empty batch, values that are not finite or lie outside [0,1].
    """
    check_images(images)
    follow = torch.is_grad_enabled() and images.requires_grad
    state: State = (images, *rule.start(images))
    whole = moving = None
    for number in range(1, steps + 1):
        shaken = shake(state[0]) if shake else None
        turned = turn(state[0]) if turn else None
        state = taken(_step(number, error, loss, rule, shaken, turned), state, follow)
        if number == 1 and len(state) > 1 and not (shake or turn):
            whole, (moving, state) = state[0], _only_moving(state)
            if moving is not None and not len(moving):
                break
    found = state[0] if moving is None else whole.index_put((moving,), state[0])
    return found.clamp(0, 1)


def _step(number: int, error: OfImages, loss: OfErrors, rule, shaken, turned):
    """A step as a function of the state alone, whatever is drawn being fixed."""

    def step(images: Tensor, *kept: Tensor) -> State:
        if turned:
            images = turned(images)
        found, gradient = _slope(images, error, loss)
        if shaken:
            images = shaken(images, found)
        return rule.step(number, images, gradient, found, *kept)

    return step


def _slope(images: Tensor, error: OfImages, loss: OfErrors) -> tuple[Tensor, Tensor]:
    """Errors [N] and the gradient of their losses, both with their graph where one is asked for."""
    follow = torch.is_grad_enabled() and images.requires_grad
    with torch.enable_grad():
        given = images if follow else images.detach().requires_grad_()
        found = error(given)
        (gradient,) = torch.autograd.grad(loss(found).sum(), given, create_graph=follow)
    return found if follow else found.detach(), gradient


def _only_moving(state: State) -> tuple[Tensor | None, State]:
    """Places and state of the images that go on; None in the place of all.

    Adam moves an image never whose first gradient is 0: the image stays where it is, and so does
    its gradient.
    """
    goes = state[1].flatten(1).any(1)
    if goes.all():
        return None, state
    places = goes.nonzero().flatten()
    # By indexing, and put back so, because index_select would undo channels-last.
    return places, tuple(part[places] for part in state)


def taken(step: Callable[..., State], state: State, follow: bool) -> State:
    """The state after a step; where a gradient is to `follow`, the step is made again for it."""
    if follow:
        return _MadeAgain.apply(step, *state)
    with torch.no_grad():
        return step(*state)


class _MadeAgain(torch.autograd.Function):
    """A step that keeps its inputs and is made again for the gradient."""

    @staticmethod
    def forward(ctx, step: Callable[..., State], *state: Tensor) -> State:
        ctx.step = step
        ctx.save_for_backward(*state)
        return step(*state)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError("a gradient through a purifier cannot be differentiated itself")
        with torch.enable_grad():
            state = [part.detach().requires_grad_() for part in ctx.saved_tensors]
            after = ctx.step(*state)
            # A sum, for what torch does with several gradients imports sympy: two seconds.
            total = sum((part * down).sum() for part, down in zip(after, gradients, strict=True))
        return None, *torch.autograd.grad(total, state, allow_unused=True)
