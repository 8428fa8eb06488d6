"""Steps along the sign of a gradient, inside the L-infinity ball and [0,1], and the gradients."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import add_finite, is_finite
from advdenoise.attacks._predict import Predict, margin, per_draw
from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput

# Weights of the pixels of dense predictions: logits [N,K,H,W] and masks [N,H,W] -> [N,H,W].
PixelWeights = Callable[[Tensor, Tensor], Tensor]


def ascend(
    images: Tensor,
    gradient_fn: Callable[[Tensor], Tensor],
    perturbation: Tensor | None,
    epsilon: float | Tensor,
    alpha: float | Tensor,
    steps: int | Tensor,
    mu: float | None = None,
) -> Tensor:
    """Take steps of `alpha` along the sign of the gradient, projected after each step.

    Args:
        images: [N,C,H,W] in [0,1].
        gradient_fn: from adversarial images to the gradient; its scale does not matter. An image
            with a gradient that is not finite does not move in that step.
        perturbation: where to start; modified in place. None stands for zeros, which saves a pass
            over memory.
        epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
        alpha: step size in pixel units; negative to descend.
        steps: a number or [N,1,1,1].
        mu: decay of the momentum (Dong et al. 2018); None for no momentum.

    Returns:
        the perturbation [N,C,H,W].
    """
    lower, upper = limits(images, epsilon)
    if perturbation is not None:
        torch.clamp(perturbation, lower, upper, out=perturbation)
    alpha = torch.as_tensor(alpha, dtype=images.dtype, device=images.device)
    momentum = None if mu is None else torch.zeros_like(images)
    direction = torch.empty_like(images)
    for step in range(int(torch.as_tensor(steps).max())):
        gradient = gradient_fn(images if perturbation is None else images + perturbation)
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
    return torch.zeros_like(images) if perturbation is None else perturbation


def input_gradient(images: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of `loss(images)`, a sum over the images; weights get no gradient."""
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        return torch.autograd.grad(loss(inputs), inputs)[0]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy, summed over the images.

    For dense logits [N,K,H,W] and masks [N,H,W] an image's loss is the mean over its labelled
    pixels, 0 if it has none.
    """
    if labels.ndim == 1:  # here 255 is a class like any other
        return functional.cross_entropy(logits, labels, reduction="sum")
    # Reduced here: torch's own reduction of masks has no deterministic kernel on a GPU.
    losses = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return (losses * _mean_weights(labels, losses)).sum()


def _mean_weights(masks: Tensor, like: Tensor) -> Tensor:
    """The weight of each pixel in its image's mean over labelled pixels: [N,H,W]."""
    labelled = (masks != IGNORED).to(like.dtype)
    return labelled / labelled.sum((1, 2), keepdim=True).clamp(min=1)


def cross_entropy_gradient(
    images: Tensor, labels: Tensor, predict: Predict, pixel_weights: PixelWeights | None = None
) -> Tensor:
    """The input gradient of `cross_entropy`, summed over the draws of `predict`.

    A sum and not a mean, since only its sign is used. For each image, draws whose gradient is not
    finite are left out, unless none is finite. `pixel_weights` multiply the loss of each pixel of
    dense predictions.
    """

    def of_draw(network: Predict) -> Tensor:
        if labels.ndim == 1:
            return input_gradient(images, lambda inputs: cross_entropy(network(inputs), labels))
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            logits = network(inputs)
            down = _logit_gradient(logits, labels, pixel_weights)
            return torch.autograd.grad(logits, inputs, down)[0]

    return functools.reduce(add_finite, map(of_draw, per_draw(predict)))


def margin_gradient(
    images: Tensor, labels: Tensor, targeted: bool, predict: Predict, kappa: float
) -> Tensor:
    """The input gradient of min(-margin, `kappa`) of each image, see `_predict.margin`.

    It is the mean over the draws of `predict`; a draw whose gradient is not finite counts as 0.
    """

    def of_draw(network: Predict) -> Tensor:
        return input_gradient(
            images, lambda x: -margin(network(x), labels, targeted).clamp(min=-kappa).sum()
        )

    draws = per_draw(predict)
    return functools.reduce(add_finite, map(of_draw, draws)) / len(draws)


@torch.no_grad()
def _logit_gradient(logits: Tensor, masks: Tensor, pixel_weights: PixelWeights | None) -> Tensor:
    """The gradient of `cross_entropy` in dense logits: softmax minus one-hot, for each pixel.

    Computed in closed form: beside a small segmenter, autograd through the loss of so many pixels
    is a large share of a step. Classes lie next to each other in memory, as in channels-last
    logits, so nothing is copied.
    """
    weights = _mean_weights(masks, logits)
    if pixel_weights is not None:
        weights = weights * pixel_weights(logits, masks)
    gradient = logits.movedim(1, -1).softmax(-1)
    classes = masks.where(masks != IGNORED, 0)[..., None]
    gradient.scatter_add_(-1, classes, gradient.new_full((), -1.0).expand(classes.shape))
    return gradient.mul_(weights[..., None]).movedim(-1, 1)


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
