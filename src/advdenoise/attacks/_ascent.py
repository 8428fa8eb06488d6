"""Steps along the sign of a gradient, inside the L-infinity ball and [0,1]."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.attacks._ball import limits
from advdenoise.attacks._predict import Predict, each, margin
from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput
from advdenoise.outputs import finite_rows

# Weighs what has a label: from logits [N,K,...] and labels [N,...] to [N,...].
Weigh = Callable[[Tensor, Tensor], Tensor]


def ascend(
    images: Tensor,
    slope: Callable[[Tensor], Tensor],
    perturbation: Tensor | None,
    epsilon: float | Tensor,
    alpha: float | Tensor,
    steps: int | Tensor,
    mu: float | None = None,
) -> Tensor:
    """Take `steps` (one number, or [N,1,1,1]) from `perturbation`, which is changed in place.

    None stands for the image itself: no memory is passed over to add nothing. `slope` gives the
    gradient at images [N,C,H,W], whose length does not matter; an image where it is not finite
    rests for that step. A negative `alpha` descends. `mu` is the decay of the momentum, where there
    is one.
    """
    lower, upper = limits(images, epsilon)
    if perturbation is not None:
        torch.clamp(perturbation, lower, upper, out=perturbation)
    alpha = torch.as_tensor(alpha, dtype=images.dtype, device=images.device)
    momentum = None if mu is None else torch.zeros_like(images)
    direction = torch.empty_like(images)
    for step in range(int(torch.as_tensor(steps).max())):
        gradient = slope(images if perturbation is None else images + perturbation)
        finite = is_finite(gradient)
        if momentum is not None:
            gradient = momentum.mul_(mu).add_(unit(gradient).where(finite, 0))
        torch.sign(gradient, out=direction)  # that of NaN is 0
        length = alpha * (finite & (step < steps))
        if perturbation is None:
            perturbation = direction * length
        else:
            perturbation.addcmul_(direction, length)
        torch.clamp(perturbation, lower, upper, out=perturbation)
    return torch.zeros_like(images) if perturbation is None else perturbation


def gradient(seen: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Of `loss`, a sum over images, in the images `seen`; that of weights is not computed."""
    with torch.enable_grad():
        seen = seen.detach().requires_grad_()
        return torch.autograd.grad(loss(seen), seen)[0]


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy, summed over images.

    Of dense logits [N,K,H,W] and masks [N,H,W] that of an image is the mean over its labelled
    pixels, 0 where it has none.
    """
    if labels.ndim == 1:  # 255 is a class like any other
        return functional.cross_entropy(logits, labels, reduction="sum")
    # Pixel by pixel: what sums masks at once is quicker, but has no deterministic kernel on a GPU.
    found = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return (found * _shares(labels, found)).sum()


def _shares(masks: Tensor, like: Tensor) -> Tensor:
    """What each pixel counts in its image's mean, which ignored ones are not in: [N,H,W]."""
    labelled = (masks != IGNORED).to(like.dtype)
    return labelled / labelled.sum((1, 2), keepdim=True).clamp(min=1)


def entropy_slope(
    seen: Tensor, labels: Tensor, predict: Predict, weigh: Weigh | None = None
) -> Tensor:
    """The gradient of `entropy` in the images `seen`, summed over the draws of `predict`.

    The sum over draws, for only the direction counts; it leaves out draws in which an image's
    gradient is not finite, unless none is. Each pixel of a mask counts `weigh` times.
    """

    def of(ask: Predict) -> Tensor:
        if labels.ndim == 1:
            return gradient(seen, lambda given: entropy(ask(given), labels))
        with torch.enable_grad():
            given = seen.detach().requires_grad_()
            logits = ask(given)
            return torch.autograd.grad(logits, given, _logit_slope(logits, labels, weigh))[0]

    return functools.reduce(_add_finite, map(of, each(predict)))


def _add_finite(total: Tensor, gradient: Tensor) -> Tensor:
    """Both added, or of an image where one of them is not finite the other."""
    added = torch.add(total, gradient)
    added = added.where(is_finite(gradient), total)
    return added.where(is_finite(total), gradient)


def margin_gradient(
    images: Tensor, labels: Tensor, targeted: bool, predict: Predict, kappa: float
) -> Tensor:
    """The gradient of each image's lead, up to `kappa`, in its pixels.

    The lead is the largest other output less the label's, the other way round where `targeted`; it
    is the mean over the draws of `predict`, of which those without a finite gradient count as 0.
    From `kappa` on the gradient is 0.
    """

    def of(ask: Predict) -> Tensor:
        return gradient(images, lambda x: -margin(ask(x), labels, targeted).clamp(min=-kappa).sum())

    draws = each(predict)
    return functools.reduce(_add_finite, map(of, draws)) / len(draws)


@torch.no_grad()
def _logit_slope(logits: Tensor, masks: Tensor, weigh: Weigh | None) -> Tensor:
    """The gradient of `entropy` in dense logits: of a pixel, probabilities less the one-hot class.

    Made by hand, for beside a small segmenter the loss of so many pixels is no small part: here
    classes lie next to each other, as in channels-last logits, and nothing is copied.
    """
    shares = _shares(masks, logits)
    if weigh is not None:
        shares = shares * weigh(logits, masks)
    slope = logits.movedim(1, -1).softmax(-1)
    classes = masks.where(masks != IGNORED, 0)[..., None]
    slope.scatter_add_(-1, classes, slope.new_full((), -1.0).expand(classes.shape))
    return slope.mul_(shares[..., None]).movedim(-1, 1)


def is_finite(gradient: Tensor) -> Tensor:
    """Whether each image's gradient is: [N,1,1,1]."""
    return finite_rows(gradient).view(-1, *[1] * (gradient.ndim - 1))


def step_size(
    epsilon: float | Tensor, alpha: float | None, alpha_per_epsilon: float | None
) -> float | Tensor:
    """The step in pixel units; BadInput unless exactly one of the two settings is given."""
    if (alpha is None) == (alpha_per_epsilon is None):
        raise BadInput(
            "settings of an attack with steps: give either alpha (step in pixel units) or "
            "alpha_per_epsilon (step as a share of epsilon), one of the two"
        )
    return alpha if alpha_per_epsilon is None else alpha_per_epsilon * epsilon


def unit(gradient: Tensor) -> Tensor:
    """Each image's gradient scaled to an L1 norm of 1; a vanishing one stays 0."""
    norm = torch.linalg.vector_norm(gradient, 1, _per_image(gradient), keepdim=True)
    return gradient / (norm + 1e-12)


def _per_image(batch: Tensor) -> tuple[int, ...]:
    return tuple(range(1, batch.ndim))
