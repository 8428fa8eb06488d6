"""Steps along the sign of a gradient, inside the L-infinity ball and [0,1], and the gradients."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import Expectation, expectation, is_finite
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._pixel_losses import (
    PixelWeights,
    classes_of,
    logit_gradient,
    mean_weights,
)
from advdenoise.attacks._predict import Predict, fooled_share, margin, per_draw
from advdenoise.errors import BadInput


class Evaluate(Protocol):
    """Evaluates the network under attack on adversarial images, or `network` in its place."""

    def __call__(
        self, inputs: Tensor, network: Predict | None = None, gradient: bool = True
    ) -> Expectation: ...


def ascend(
    images: Tensor,
    evaluate: Evaluate,
    perturbation: Tensor | None,
    epsilon: float | Tensor,
    alpha: float | Tensor,
    steps: int | Tensor,
    mu: float | None = None,
    iterates: Iterates | None = None,
) -> Tensor:
    """Take steps of `alpha` along the sign of the gradient, projected after each step.

    Args:
        images: [N,C,H,W] in [0,1].
        evaluate: the scale of its gradient does not matter. An image with a gradient that is not
            finite does not move in that step.
        perturbation: where to start; modified in place. None stands for zeros, which saves a pass
            over memory.
        epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
        alpha: step size in pixel units.
        steps: a number or [N,1,1,1].
        mu: decay of the momentum (Dong et al. 2018); None for no momentum.
        iterates: chooses the perturbation to return; None for the last one.

    Returns:
        the perturbation [N,C,H,W].
    """
    lower, upper = limits(images, epsilon)
    if perturbation is not None:
        torch.clamp(perturbation, lower, upper, out=perturbation)
    alpha = torch.as_tensor(alpha, dtype=images.dtype, device=images.device)
    momentum = None if mu is None else torch.zeros_like(images)
    direction = torch.empty_like(images)
    last = int(torch.as_tensor(steps).max())
    for step in range(last):
        result = evaluate(images if perturbation is None else images + perturbation)
        if iterates is not None:
            iterates.visit(perturbation, result, step, steps)
        gradient = result.gradient
        assert gradient is not None
        finite = is_finite(gradient)
        if momentum is not None:
            gradient = momentum.mul_(mu).add_(l1_normalised(gradient).where(finite, 0))
        torch.sign(gradient, out=direction)  # the sign of NaN is 0
        length = alpha * (finite & (step < steps))
        if perturbation is None:
            perturbation = direction * length
        else:
            perturbation.addcmul_(direction, length)
        torch.clamp(perturbation, lower, upper, out=perturbation)
    perturbation = torch.zeros_like(images) if perturbation is None else perturbation
    if iterates is None or not iterates.is_needed:
        return perturbation
    result = evaluate(images + perturbation, gradient=False)
    iterates.visit(perturbation, result, last, steps, final=True)
    return iterates.choose(
        perturbation, lambda select, p: evaluate(images + p, select, gradient=False)
    )


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of each image: [N].

    For dense logits [N,K,H,W] and masks [N,H,W] it is the mean over an image's labelled pixels, 0
    if it has none.
    """
    if labels.ndim == 1:  # here 255 is a class like any other
        return functional.cross_entropy(logits, labels, reduction="none")
    losses = logits.logsumexp(1) - logits.gather(1, classes_of(labels)[:, None])[:, 0]
    return (losses * mean_weights(labels, losses)).sum((1, 2))


def cross_entropy_expectation(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    pixel_weights: PixelWeights | None = None,
    gradient: bool = True,
) -> Expectation:
    """The expectation of `cross_entropies`, negated if `targeted`, over the draws of `predict`.

    `pixel_weights` multiply the loss of each pixel of dense predictions in the gradient alone.
    """

    def loss(logits: Tensor) -> Tensor:
        losses = cross_entropies(logits, labels)
        return -losses if targeted else losses

    def output_gradient(logits: Tensor) -> Tensor:
        down = logit_gradient(logits, labels, pixel_weights)
        return down.neg_() if targeted else down

    return expectation(
        images,
        predict,
        loss,
        lambda outputs: fooled_share(outputs, labels, targeted),
        gradient=gradient,
        output_gradient=output_gradient if labels.ndim > 1 else None,
    )


def cross_entropy_gradient(images: Tensor, labels: Tensor, predict: Predict) -> Tensor:
    """The input gradient of `cross_entropies`, summed over the draws of `predict`.

    A sum and not a mean, since only its sign is used. For each image, draws whose gradient is not
    finite are left out, unless none is finite.
    """
    gradient = cross_entropy_expectation(images, labels, False, predict).gradient
    assert gradient is not None
    return gradient


def margin_expectation(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    kappa: float,
    gradient: bool = True,
) -> Expectation:
    """The expectation of min(-margin, `kappa`) over the draws of `predict`, see `_predict.margin`.

    The gradient is the mean over the draws; one that is not finite counts as 0.
    """
    result = expectation(
        images,
        predict,
        lambda outputs: -margin(outputs, labels, targeted).clamp(min=-kappa),
        lambda outputs: fooled_share(outputs, labels, targeted),
        gradient=gradient,
    )
    if result.gradient is None:
        return result
    return result._replace(gradient=result.gradient / len(per_draw(predict)))


def step_size(
    epsilon: float | Tensor, alpha: float | None, alpha_per_epsilon: float | None
) -> float | Tensor:
    """The step in pixel units; raises BadInput unless exactly one of the two settings is given."""
    if (alpha is None) == (alpha_per_epsilon is None):
        raise BadInput(
            "settings of an attack with steps: give either alpha (step in pixel units) or "
            "alpha_per_epsilon (step as a share of epsilon), not both or neither"
        )
    return alpha if alpha_per_epsilon is None else alpha_per_epsilon * epsilon


def l1_normalised(gradient: Tensor) -> Tensor:
    """Each image's gradient divided by its L1 norm; a zero gradient stays 0."""
    axes = tuple(range(1, gradient.ndim))
    norm = torch.linalg.vector_norm(gradient, 1, axes, keepdim=True)
    return gradient / (norm + 1e-12)
