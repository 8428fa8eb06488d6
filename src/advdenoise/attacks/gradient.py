"""Sign-gradient attacks with a fixed budget: FGSM, BIM, PGD and their relatives.

Each returns the perturbation: images + perturbation is the adversarial image, inside [0,1] and
inside the L-infinity ball after every step. All steps are taken, also for images that are already
misclassified. The loss is the cross-entropy of the logits (the margin for `margin_pgd`), summed
over the batch, so that images do not influence each other. For dense predictions an image's loss
is the mean over its labelled pixels; an image without labelled pixels does not move.

Arguments and settings that several of them take:

    images: float [N,C,H,W] in [0,1].
    labels: int64 [N], or masks [N,H,W] with 255 for pixels without a label.
    targeted: minimise the loss of `labels` instead of maximising it.
    predict: images -> logits [N,K] or [N,K,H,W], differentiable, in eval mode. If it draws random
        numbers, the gradient is the mean over `per_draw`, with new draws at each step (expectation
        over transformation, Athalye et al. 2018), leaving out draws whose gradient is not finite.
    noise: one random stream per image.
    epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
    alpha, alpha_per_epsilon: the step size in pixel units, or as a multiple of epsilon. BadInput
        is raised unless exactly one of the two is given.
    returns: which of the perturbations is returned, of the starting point and each step, see
        `_iterates`: `last`, as in the papers on the attacks; `best`, with the highest loss;
        `fooled`, the last one that fools `predict`, or else `best`.
    facts, select: see `_facts` and `_predict`.

An image whose gradient is not finite does not move in that step.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from advdenoise.attacks._ascent import (
    ascend,
    cross_entropy_expectation,
    margin_expectation,
    step_size,
)
from advdenoise.attacks._expectation import Expectation
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._kurakin import kurakin_steps
from advdenoise.attacks._pixel_losses import segpgd_weights
from advdenoise.attacks._predict import Predict, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import (
    Epsilon,
    Interval,
    NonNegativeFloat,
    Pixel,
    PositiveFloat,
    PositiveInt,
    Returns,
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
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt | Literal["kurakin"],
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    returns: Returns = "last",
) -> Tensor:
    """Steps along the sign of the gradient, starting at the image (Kurakin et al. 2017; I-FGSM).

    `steps: kurakin` takes as many as that paper's rule gives for epsilon, in the form of Cho
    et al. 2020 (`kurakin_steps`). Raises BadInput for any other text.
    """
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    if steps == "kurakin":
        steps = _kurakin_steps(epsilon)
    elif isinstance(steps, str):
        raise BadInput(f"settings.steps: must be a number of steps or 'kurakin', got {steps!r}")
    iterates = Iterates(images, returns, labels.ndim > 1, facts, select)
    return _ascend(
        images, labels, targeted, predict, None, epsilon, alpha, steps, iterates=iterates
    )


def pgd(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    returns: Returns = "last",
) -> Tensor:
    """BIM from a starting point drawn uniformly from the ball (Madry et al. 2018)."""
    start = _random_start(images, noise, epsilon)
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    iterates = Iterates(images, returns, labels.ndim > 1, facts, select)
    return _ascend(
        images, labels, targeted, predict, start, epsilon, alpha, steps, iterates=iterates
    )


def mi_fgsm(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    mu: Annotated[float, Interval(ge=0, le=10)] = 1.0,
    returns: Returns = "last",
) -> Tensor:
    """BIM along the sign of g <- mu g + gradient / |gradient|_1 (Dong et al. 2018, equation 6).

    `mu` >= 0 is the decay of the momentum g, which starts at 0.
    """
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    iterates = Iterates(images, returns, labels.ndim > 1, facts, select)
    return _ascend(images, labels, targeted, predict, None, epsilon, alpha, steps, mu, iterates)


def margin_pgd(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    kappa: NonNegativeFloat = 50.0,
    c: PositiveFloat | None = None,
    random_start: bool = True,
    returns: Returns = "last",
) -> Tensor:
    """PGD on the margin of Carlini and Wagner (2017) instead of the cross-entropy ("CW-PGD").

    It maximises min(max_{j != y} z_j - z_y, `kappa`), or min(z_t - max_{j != t} z_j, `kappa`) if
    `targeted`, as Madry et al. (2018) do: an image beyond `kappa` >= 0 does not move. With `c` > 0
    it maximises `c` times that minus the mean squared perturbation of the image's elements, the
    objective of the program of Kalaria et al. 2022: an image beyond `kappa` then moves back.
    Without `random_start` it starts at the image.

    Raises BadInput for masks.
    """
    refuse_masks(labels, "gradient.margin_pgd")
    start = _random_start(images, noise, epsilon) if random_start else None

    def evaluate(
        inputs: Tensor, network: Predict | None = None, gradient: bool = True
    ) -> Expectation:
        result = margin_expectation(inputs, labels, targeted, network or predict, kappa, gradient)
        return result if c is None else _less_the_mean_square(result, c, inputs - images)

    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    iterates = Iterates(images, returns, False, facts, select)
    return ascend(images, evaluate, start, epsilon, alpha, steps, iterates=iterates)


def _less_the_mean_square(result: Expectation, c: float, perturbation: Tensor) -> Expectation:
    """`c` times an expectation, less the mean square of each image's perturbation."""
    loss = c * result.loss - perturbation.square().flatten(1).mean(1)
    gradient = result.gradient
    if gradient is not None:
        gradient = c * gradient - perturbation * (2 / perturbation[0].numel())
    return Expectation(loss, loss, result.fooled, gradient)


def segpgd(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
    returns: Returns = "last",
) -> Tensor:
    """PGD that shifts weight from correct to incorrect pixels (SegPGD, Gu et al. 2022).

    In step t = 1, 2, ..., `steps` the cross-entropy of a correctly predicted pixel is weighted by
    1 - lambda and that of the others by lambda = (t - 1) / (2 steps); the first step thus uses
    correct pixels only (algorithm 1). Behind a purifier that draws random numbers, correctness is
    that of each draw. Equal shares of `best` and `fooled` are ordered by the plain cross-entropy.
    """
    start = _random_start(images, noise, epsilon)
    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    # `ascend` asks for one gradient per step.
    shares = (step / steps for step in range(steps))

    def evaluate(
        inputs: Tensor, network: Predict | None = None, gradient: bool = True
    ) -> Expectation:
        weights = segpgd_weights(next(shares) if gradient else 0.0)
        return cross_entropy_expectation(
            inputs, labels, False, network or predict, weights, gradient
        )

    iterates = Iterates(images, returns, True, facts, select)
    return ascend(images, evaluate, start, epsilon, alpha, steps, iterates=iterates)


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
    """FGSM of the full epsilon after a random step U(-start_radius, start_radius).

    Source: Kalaria et al. 2022 (R-FGSM).

    The perturbation may reach epsilon + start_radius. (Tramer et al. 2018 take both from one
    budget.) The starting point is clipped to [0,1].
    """
    start = _random_start(images, noise, start_radius)
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
    iterates: Iterates | None = None,
) -> Tensor:
    """`ascend` the cross-entropy, or its negative if `targeted`."""

    def evaluate(
        inputs: Tensor, network: Predict | None = None, gradient: bool = True
    ) -> Expectation:
        return cross_entropy_expectation(
            inputs, labels, targeted, network or predict, gradient=gradient
        )

    return ascend(images, evaluate, perturbation, epsilon, alpha, steps, mu, iterates)


def _random_start(images: Tensor, noise: Noise, radius: float | Tensor) -> Tensor:
    return noise.uniform(images, -radius, radius).to(images.dtype)


def _kurakin_steps(epsilon: float | Tensor) -> int | Tensor:
    if not isinstance(epsilon, Tensor):
        return kurakin_steps(epsilon)
    steps = [kurakin_steps(e) for e in epsilon.flatten().tolist()]
    return torch.tensor(steps, device=epsilon.device).view(epsilon.shape)
