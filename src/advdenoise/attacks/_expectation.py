"""The expectation over a random network's draws: losses, fooled draws and gradients of images."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advdenoise.attacks._predict import Predict, per_draw
from advdenoise.outputs import finite_rows

# From outputs [N,K] or [N,K,H,W] to one number for each image, [N].
Measure = Callable[[Tensor], Tensor]


class Expectation(NamedTuple):
    """What `expectation` returns, all without a graph.

    `loss` [N] is the mean over the draws with a finite loss, NaN without one; `tracked` [N] the
    same of a second loss, `loss` itself by default. `fooled` [N] is the mean over all draws.
    `gradient` [N,C,H,W] is the sum over the draws, see `add_finite`; None if not asked for.
    """

    loss: Tensor
    tracked: Tensor
    fooled: Tensor
    gradient: Tensor | None


def expectation(
    images: Tensor,
    predict: Predict,
    loss: Measure,
    fooled: Measure,
    tracked: Measure | None = None,
    gradient: bool = True,
    output_gradient: Measure | None = None,
    combine: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Expectation:
    """Evaluate `predict` on images [N,C,H,W], once for each of its draws.

    The graph of one draw exists at a time, so that memory does not grow with their number.

    Args:
        loss: outputs -> the loss [N] whose gradient is taken. Losses of one image must not depend
            on the others.
        fooled: outputs -> whether the attack succeeds on each image, bool [N]; of dense
            predictions the share of pixels, float [N]. See `_predict.fooled_share`.
        tracked: outputs -> a loss [N] that is evaluated without a gradient.
        gradient: whether to take the gradient of `loss`.
        output_gradient: outputs -> the gradient in the outputs, shaped like them, in the place of
            that of `loss`, where a closed form is faster.
        combine: from the losses [D,N] and gradients [D,N,C,H,W] of several draws to the gradient
            [N,C,H,W] in the place of their sum. The gradients of all draws then exist at a time.
    """

    def of_draw(network: Predict) -> Expectation:
        with torch.set_grad_enabled(gradient):
            inputs = images.detach().requires_grad_(gradient)
            outputs = network(inputs)
            input_gradient = None
            if gradient and output_gradient is not None:
                down = output_gradient(outputs.detach())
                input_gradient = torch.autograd.grad(outputs, inputs, down)[0]
                outputs = outputs.detach()
            losses = loss(outputs)
            if gradient and input_gradient is None:
                input_gradient = torch.autograd.grad(losses.sum(), inputs)[0]
        losses, outputs = losses.detach(), outputs.detach()
        second = losses if tracked is None else tracked(outputs)
        return Expectation(losses, second, fooled(outputs).to(losses.dtype), input_gradient)

    first, *others = per_draw(predict)
    total = of_draw(first)
    if not others:
        return total
    losses, tracked_losses = [total.loss], [total.tracked]
    fooled_total, input_gradient = total.fooled, total.gradient
    gradients = [input_gradient] if input_gradient is not None else []
    for network in others:
        part = of_draw(network)
        losses.append(part.loss)
        tracked_losses.append(part.tracked)
        fooled_total = fooled_total + part.fooled
        if input_gradient is not None and part.gradient is not None:
            if combine is None:
                input_gradient = add_finite(input_gradient, part.gradient)
            else:
                gradients.append(part.gradient)
    if combine is not None and gradients:
        input_gradient = combine(torch.stack(losses), torch.stack(gradients))
    return Expectation(
        _finite_mean(losses),
        _finite_mean(tracked_losses),
        fooled_total / (1 + len(others)),
        input_gradient,
    )


def add_finite(total: Tensor, gradient: Tensor) -> Tensor:
    """The sum of both; for an image where one of them is not finite, the other."""
    added = torch.add(total, gradient)
    added = added.where(is_finite(gradient), total)
    return added.where(is_finite(total), gradient)


def is_finite(gradient: Tensor) -> Tensor:
    """Whether the gradient of each image is finite: bool [N,1,1,1]."""
    return finite_rows(gradient).view(-1, *[1] * (gradient.ndim - 1))


def _finite_mean(losses: list[Tensor]) -> Tensor:
    """The mean over the draws with a finite loss, NaN without one: [N]."""
    values = torch.stack(losses)
    return values.where(values.isfinite(), torch.nan).nanmean(0)
