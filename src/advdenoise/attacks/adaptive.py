"""Adaptive attacks whose loss contains the reconstruction error of the defender's denoiser.

An attack through a purifier needs no function of its own: the stage gives any attack the network
behind the purifier, and `through: denoiser` of an entry turns BIM into counter attack A of Kalaria
et al. 2022 (equation 14).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from advdenoise.attacks._ascent import ascend, cross_entropies, step_size
from advdenoise.attacks._expectation import Expectation
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._predict import Predict, fooled_share
from advdenoise.ranges import (
    Epsilon,
    NonNegativeFloat,
    PositiveInt,
    Returns,
    StepShare,
    StepSize,
)


def counter_b(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    classifier: Predict,
    error: Callable[[Tensor], Tensor],
    facts: Facts | None = None,
    *,
    weight: NonNegativeFloat,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    returns: Returns = "last",
) -> Tensor:
    """BIM on a loss that also keeps the reconstruction error low.

    Source: Kalaria et al. 2022, equation 15.

    X_{i+1} = Clip(X_i + alpha sign(gradient of [CE(f(X_i), y) - weight RE(X_i)])), starting at the
    image. If `targeted`, the cross-entropy is minimised; the reconstruction error always is. Where
    the error is 0 this is BIM.

    Args:
        images: [N,C,H,W] in [0,1].
        labels: int64 [N], or masks [N,H,W], for which CE is the mean over labelled pixels.
        classifier: f, the classifier without the purifier.
        error: RE, from images to the reconstruction error [N].
        weight: the paper's lambda, which it chooses for each data set as the worst for the defence.
        epsilon: radius of the L-infinity ball in pixel units, a number or [N,1,1,1].
        alpha, alpha_per_epsilon: step size in pixel units, or as a multiple of epsilon.
        returns: as in `gradient`: which of the perturbations is returned.

    Raises:
        BadInput: unless exactly one of the two step sizes is given.
    """
    sign = -1 if targeted else 1

    def evaluate(
        inputs: Tensor, network: Predict | None = None, gradient: bool = True
    ) -> Expectation:
        with torch.set_grad_enabled(gradient):
            inputs = inputs.detach().requires_grad_(gradient)
            outputs = (network or classifier)(inputs)
            losses = sign * cross_entropies(outputs, labels) - weight * error(inputs)
            input_gradient = torch.autograd.grad(losses.sum(), inputs)[0] if gradient else None
        losses = losses.detach()
        fooled = fooled_share(outputs.detach(), labels, targeted).to(losses.dtype)
        return Expectation(losses, losses, fooled, input_gradient)

    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    iterates = Iterates(images, returns, labels.ndim > 1, facts)
    return ascend(images, evaluate, None, epsilon, alpha, steps, iterates=iterates)
