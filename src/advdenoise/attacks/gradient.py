"""Attacks of a fixed budget that follow the sign of the input gradient.

Each returns the perturbation, so that images + perturbation is the adversarial image: inside [0,1]
and inside the L-infinity ball after every step. All steps are taken, also by images that are fooled
already. Images never influence each other: the loss is the cross-entropy of the logits (of
`margin_pgd` their margin), summed over the batch. Of dense predictions that of an image is the mean
over its labelled pixels; one without any rests.

What they are handed: `images` float [N,C,H,W] in [0,1]; `labels` int64 [N], whose cross-entropy
is raised, or lowered where `targeted`, or masks [N,H,W] with 255 for pixels without a label;
`predict` images -> logits [N,K] or [N,K,H,W], differentiable, in eval mode; `noise` one random
stream per image. Where `predict` draws random numbers, the gradient is the mean
over its `each`, drawn afresh at each step (expectation over transformation, Athalye et al. 2018);
for an image, over those of them whose gradient is finite.
`epsilon` is the ball's radius in pixel units, a number or [N,1,1,1]. A step is `alpha` in pixel
units or `alpha_per_epsilon` times epsilon; exactly one of the two is given, else BadInput is
raised. An image whose gradient is not finite rests for that step.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from advdenoise.attacks._ascent import ascend, entropy_slope, margin_gradient, step_size
from advdenoise.attacks._kurakin import kurakin_steps
from advdenoise.attacks._predict import Predict, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.outputs import predicted
from advdenoise.ranges import (
    Epsilon,
    Interval,
    NonNegativeFloat,
    Pixel,
    PositiveFloat,
    PositiveInt,
    StepShare,
    StepSize,
)


def fgsm(
    images: Tensor, labels: Tensor, targeted: bool, predict: Predict, *, epsilon: Epsilon | Tensor
) -> Tensor:
    """One step of epsilon along the sign of the gradient (Goodfellow et al. 2015)."""
    return _ascend(images, labels, targeted, predict, None, epsilon, alpha=epsilon, steps=1)


def bim(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt | Literal["kurakin"],
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
) -> Tensor:
    """Steps along the sign of the gradient from the image itself (Kurakin et al. 2017; I-FGSM).

    `steps` may be "kurakin": as many as that paper's rule gives for epsilon, in the form that
    DAPAS uses (`kurakin_steps`).
    """
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    if steps == "kurakin":
        steps = _kurakin_steps(epsilon)
    elif isinstance(steps, str):
        raise BadInput(f"settings.steps: {steps!r} is neither a number of steps nor 'kurakin'")
    return _ascend(images, labels, targeted, predict, None, epsilon, alpha, steps)


def pgd(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
) -> Tensor:
    """BIM from a start drawn uniformly from the ball (Madry et al. 2018)."""
    start = noise.uniform(images, -epsilon, epsilon).to(images.dtype)
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    return _ascend(images, labels, targeted, predict, start, epsilon, alpha, steps)


def mi_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    mu: Annotated[float, Interval(ge=0, le=10)] = 1.0,
) -> Tensor:
    """BIM along the sign of g <- mu g + gradient / |gradient|_1 (Dong et al. 2018, equation 6).

    `mu` >= 0 is the decay of the momentum g, which starts at 0.
    """
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    return _ascend(images, labels, targeted, predict, None, epsilon, alpha, steps, mu)


def margin_pgd(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    kappa: NonNegativeFloat = 50.0,
    c: PositiveFloat | None = None,
    random_start: bool = True,
) -> Tensor:
    """PGD on the margin of Carlini and Wagner (2017) in the place of the cross-entropy ("CW-PGD").

    Raised is min(max_{j != y} z_j - z_y, `kappa`), where `targeted` min(z_t - max_{j != t} z_j,
    `kappa`), as Madry et al. (2018) do: an image whose margin is `kappa` >= 0 or more rests. With
    `c` > 0, the objective of APuDAE's program, `c` times that less the mean squared perturbation of
    the image's elements: an image beyond `kappa` turns back. Without `random_start` the first step
    starts at the image itself.

    Raises BadInput for masks, whose pixels have a margin each.
    """
    refuse_masks(labels, "gradient.margin_pgd")
    start = noise.uniform(images, -epsilon, epsilon).to(images.dtype) if random_start else None

    def direction(points: Tensor) -> Tensor:
        gradients = margin_gradient(points, labels, targeted, predict, kappa)
        if c is None:
            return gradients
        return c * gradients - (points - images) * (2 / images[0].numel())

    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    return ascend(images, direction, start, epsilon, alpha, steps)


def segpgd(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
) -> Tensor:
    """PGD that turns from pixels still right to those that are wrong (SegPGD, Gu et al. 2022).

    In step t = 1, 2, ..., `steps` the cross-entropy of a pixel that is predicted right counts
    1 - lambda, that of a wrong one lambda = (t - 1) / (2 steps), so that the first step looks at
    right pixels alone (algorithm 1). Behind a purifier that draws random
    numbers, right and wrong are those of each draw.
    """
    start = noise.uniform(images, -epsilon, epsilon).to(images.dtype)
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    # `ascend` asks for one gradient a step.
    of_wrong = (step / (2 * steps) for step in range(steps))

    def slope(seen: Tensor) -> Tensor:
        share = next(of_wrong)

        def weigh(logits: Tensor, labels: Tensor) -> Tensor:
            right = predicted(logits) == labels
            return torch.where(right, 1 - share, share).to(logits.dtype)

        return entropy_slope(seen, labels, predict, weigh)

    return ascend(images, slope, start, epsilon, alpha, steps)


def r_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    *,
    epsilon: Epsilon | Tensor,
    start_radius: Pixel,
) -> Tensor:
    """FGSM of the full epsilon at the image plus U(-start_radius, start_radius) (APuDAE).

    The distance to the image may reach epsilon + start_radius. (Tramer et al. 2018 take both from
    one budget.) The random start is clipped to [0,1].
    """
    start = noise.uniform(images, -start_radius, start_radius).to(images.dtype)
    radius = epsilon + start_radius
    return _ascend(images, labels, targeted, predict, start, radius, alpha=epsilon, steps=1)


def _ascend(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    perturbation: Tensor | None,
    epsilon: float | Tensor,
    alpha: float | Tensor,
    steps: int | Tensor,
    mu: float | None = None,
) -> Tensor:
    """`ascend` the cross-entropy, or descend it where `targeted`."""

    def slope(seen: Tensor) -> Tensor:
        return entropy_slope(seen, labels, predict)

    alpha = -alpha if targeted else alpha
    return ascend(images, slope, perturbation, epsilon, alpha, steps, mu)


def _kurakin_steps(epsilon: float | Tensor) -> int | Tensor:
    if not isinstance(epsilon, Tensor):
        return kurakin_steps(epsilon)
    steps = [kurakin_steps(e) for e in epsilon.flatten().tolist()]
    return torch.tensor(steps, device=epsilon.device).view(epsilon.shape)
