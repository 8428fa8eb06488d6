"""Attacks on predictions of every pixel: APGD with a shrinking ball, and Adam.

Each returns the perturbation: images + perturbation is the adversarial image, inside [0,1] and
inside the L-infinity ball. They are untargeted and raise a loss of every pixel; an image's loss is
the mean over its labelled pixels, so that images do not influence each other.

Arguments and settings that both take:

    images: float [N,C,H,W] in [0,1].
    labels: masks int64 [N,H,W] with 255 for pixels without a label; or one label per image [N].
    predict: images -> logits [N,K,H,W] (or [N,K]), differentiable, in eval mode. Shares of pixels
        and gradients are means over its draws, new ones at each step.
    noise: one random stream per image.
    facts, select: see `_facts` and `_predict`. Losses are cross-entropies, whatever is raised.
    epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
    steps: number of steps.
    returns: `best` and `fooled`, the perturbation with the lowest share of labelled pixels that are
        predicted right, among equals the one with the highest cross-entropy; `last`.

An image whose gradient is not finite does not move in that step.
"""

from typing import Literal

import torch
from torch import Tensor

from advdenoise.attacks._apgd import Search, Settings
from advdenoise.attacks._ascent import cross_entropies
from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import Expectation, expectation, is_finite
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._pixel_losses import loss_gradient
from advdenoise.attacks._predict import Predict, fooled_share, per_draw
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import (
    Decay,
    Epsilon,
    NonNegativeFloat,
    PixelLoss,
    PositiveFloat,
    PositiveInt,
    Returns,
    Share,
    StepSize,
)

# Of the 21 classes of PASCAL VOC, background first, on the images that Croce et al. 2024 judge on.
VOC_WEIGHTS = (
    *(0.0007, 0.0531, 0.1394, 0.0500, 0.0814, 0.0575, 0.0256, 0.0312, 0.0198, 0.0626, 0.0382),
    *(0.0457, 0.0212, 0.0404, 0.0421, 0.0089, 0.0915, 0.0585, 0.0366, 0.0279, 0.0677),
)


def apgd(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 300,
    loss: PixelLoss = "mask_ce",
    weights: Literal["voc"] | list[NonNegativeFloat] | None = None,
    red_epsilon: bool = True,
    rho: Share = 0.75,
    returns: Returns = "fooled",
) -> Tensor:
    """APGD on a loss of every pixel, in balls that shrink (SEA, Croce, Singh & Hein 2024).

    Three runs of APGD, see `auto.apgd`, in balls of 2, 1.5 and 1 epsilon with 30, 30 and 40 % of
    the steps. The first starts at a uniform random point of its ball, each later one at the last
    one's best point, clipped to its own ball. The steps follow the gradient of `loss`; step sizes
    and the point where the search goes on follow the cross-entropy. `facts` are of the last run.

    Args:
        loss: what the steps raise, see `_pixel_losses.loss_gradient`. SEA is the worst case over
            `mask_ce_balanced`, `mask_ce` and `js`, its first version over `mask_ce`, `segpgd`, `js`
            and `mask_spherical`.
        weights: of the classes for `mask_ce_balanced`, one for each, such as their normalised
            inverse frequencies; only their ratios matter. `voc`: those of SEA for PASCAL VOC.
        red_epsilon: false for one run in the ball of epsilon.
        rho: see `auto.apgd`.

    Raises:
        BadInput: `mask_ce_balanced` without `weights`, another loss with them, or a number of
            weights that is not that of the classes.
    """
    class_weights = _class_weights(loss, weights, images)

    def raised(outputs: Tensor, rows: Tensor) -> Tensor:
        return cross_entropies(outputs, labels[rows])

    def output_gradient(outputs: Tensor, rows: Tensor, progress: float) -> Tensor:
        if class_weights is not None and len(class_weights) != outputs.shape[1]:
            raise BadInput(
                f"settings.weights: must have one number for each of the {outputs.shape[1]} "
                f"classes, got {len(class_weights)}"
            )
        return loss_gradient(outputs, labels[rows], loss, progress, class_weights)

    stages = _stages(steps) if red_epsilon else [(1.0, steps)]
    widest = stages[0][0] * epsilon
    point = noise.uniform(images, -widest, widest).to(images.dtype)
    for stage, (scale, count) in enumerate(stages):
        if stage < len(stages) - 1:
            iterates = Iterates(images, "fooled", dense=True)
        else:
            iterates = Iterates(images, returns, True, facts, select)
        radius = scale * epsilon
        search = Search(
            images,
            labels,
            False,
            predict,
            noise,
            iterates,
            radius,
            Settings(count, "linf", rho, "zero", False),
            output_gradient=output_gradient,
        )
        search.run(raised, raised, point.clamp(*limits(images, radius)))
        point = search.result(raised, "best")
    return point


def padam(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 200,
    loss: Literal["ce", "cos"] = "ce",
    rate: StepSize = 2 / 255,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    tiny: PositiveFloat = 1e-8,
    returns: Returns = "last",
) -> Tensor:
    """Adam (AMSGrad) from a uniform random point, clipped to the ball after every step.

    Source: Halmosi, Mohos & Jelasity 2024 (PAdam). `tiny` is added to the root of the second
    moment. The gradient is that of the mean over an image's labelled pixels, times its number of
    pixels: the mean over a batch would make steps depend on its size, and gradients so small that
    `tiny` matters.

    Args:
        loss: what the steps raise, see `_pixel_losses.loss_gradient`.
        rate: Adam's step size in pixel units.
        beta1, beta2: decays of the first and the second moment.
    """
    lower, upper = limits(images, epsilon)
    point = noise.uniform(images, -epsilon, epsilon).to(images.dtype).clamp_(lower, upper)
    iterates = Iterates(images, returns, True, facts, select)
    first, second, largest = (torch.zeros_like(images) for _ in range(3))
    factor = labels[0].numel() / len(per_draw(predict))

    def evaluate(network: Predict, perturbation: Tensor, gradient: bool) -> Expectation:
        return expectation(
            images + perturbation,
            network,
            lambda outputs: cross_entropies(outputs, labels),
            lambda outputs: fooled_share(outputs, labels, False),
            gradient=gradient,
            output_gradient=lambda outputs: loss_gradient(outputs, labels, loss),
        )

    for step in range(steps):
        result = evaluate(predict, point, True)
        iterates.visit(point, result, step, steps)
        gradient = result.gradient
        assert gradient is not None
        finite = is_finite(gradient)
        gradient = (gradient * factor).where(finite, 0)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        torch.maximum(largest, second, out=largest)
        root = (largest / (1 - beta2 ** (step + 1))).sqrt_().add_(tiny)
        length = finite.to(images.dtype) * (rate / (1 - beta1 ** (step + 1)))
        point = torch.clamp(point + length * (first / root), lower, upper)
    if not iterates.is_needed:
        return point
    iterates.visit(point, evaluate(predict, point, False), steps, steps, final=True)
    return iterates.choose(point, lambda select, p: evaluate(select, p, False))


def _stages(steps: int) -> list[tuple[float, int]]:
    """The radius and the number of steps of each stage that has any."""
    early = 3 * steps // 10
    stages = [(2.0, early), (1.5, early), (1.0, steps - 2 * early)]
    return [(radius, count) for radius, count in stages if count]


def _class_weights(loss: PixelLoss, weights: object, images: Tensor) -> Tensor | None:
    if (loss == "mask_ce_balanced") != (weights is not None):
        raise BadInput(
            "settings.weights: give the weights of the classes with loss: mask_ce_balanced, and "
            "with no other loss"
        )
    values = VOC_WEIGHTS if weights == "voc" else weights
    return None if values is None else torch.tensor(values, dtype=images.dtype).to(images.device)
