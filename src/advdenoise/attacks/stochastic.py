"""Attacks that choose among the gradients of a random purifier's draws."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.attacks._ascent import ascend, step_size
from advdenoise.attacks._expectation import Expectation, expectation, is_finite
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._predict import (
    Predict,
    copied,
    fooled_share,
    for_rows,
    margin,
    per_draw,
    pull_back,
    refuse_masks,
)
from advdenoise.noise import Noise
from advdenoise.ranges import (
    Epsilon,
    Interval,
    NonNegativeFloat,
    PositiveInt,
    Returns,
    StepShare,
    StepSize,
)


def em_pgd(
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
    sharpness: NonNegativeFloat = 5.0,
    rounds: PositiveInt = 1,
    decay: Annotated[float, Interval(ge=0, le=10)] = 0.5,
    graft: bool = False,
    random_start: bool = True,
    returns: Returns = "last",
) -> Tensor:
    """PGD on the margin that weighs the draws of a random purifier (DiffHammer, Wang et al. 2024).

    A mean over draws (expectation over transformation) may be one of gradients that point in
    opposite directions. Here, for each image, with losses l_j = the largest other output - the
    label's (the opposite if `targeted`) and gradients g_j of the entry's `draws`, r starts as the
    gradient g_a with the largest sum over j of ELU(l_j + epsilon <sign(g_a), g_j>). Then, `rounds`
    times, r <- sum w_j g_j / sum w_j, w_j = sigmoid(`sharpness` (l_j + epsilon <sign(r), g_j>)):
    draws that are fooled, or would be after a step along r, weigh more than those that resist. In
    step i = 1, 2, ... the image moves along the sign of v r + (1 - v) times the last such vector,
    where v = i^-`decay`.

    With `sharpness` 0 the weights are equal and r is the mean of the gradients; with one draw and
    `decay` 0 this is PGD on the margin. Draws whose loss or gradient is not finite are left out.
    All gradients of a step are kept: memory grows with `draws`.

    Args:
        images: [N,C,H,W] in [0,1].
        labels: int64 [N].
        predict: images -> logits, behind a purifier with `per_draw`, see `_predict`.
        epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
        alpha, alpha_per_epsilon: step size in pixel units, or as a multiple of epsilon.
        sharpness: the lambda of the weights.
        rounds: updates of the weights. The text names 5; the authors' program does one.
        decay: of the momentum.
        graft: for `through: identity`, where g_j are gradients in the purified images: multiply r
            by the Jacobian of the purifier's draw a, one backward pass of the purifier a step in
            the place of one for each draw with `through: full`.
        random_start: start at a point drawn uniformly from the ball, not at the image.

    Raises:
        BadInput: unless exactly one of the two step sizes is given; masks.
    """
    refuse_masks(labels, "stochastic.em_pgd")
    start = noise.uniform(images, -epsilon, epsilon).to(images.dtype) if random_start else None
    radius = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device).flatten()

    momentum = _Momentum(images, decay)

    def evaluate(
        inputs: Tensor, network: Predict | None = None, gradient: bool = True
    ) -> Expectation:
        draws = per_draw(network or predict)
        before = [copied(draw) for draw in draws] if graft and gradient else []
        leader = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)

        def combine(losses: Tensor, gradients: Tensor) -> Tensor:
            weighted, first = _weighted(losses, gradients, radius, sharpness, rounds)
            leader.copy_(first)
            return weighted

        result = expectation(
            inputs,
            network or predict,
            lambda outputs: -margin(outputs, labels, targeted),
            lambda outputs: fooled_share(outputs, labels, targeted),
            gradient=gradient,
            combine=combine,
        )
        image_gradient = result.gradient
        if image_gradient is None:
            return result
        for number, draw in enumerate(before):
            rows = (leader == number).nonzero().flatten()
            if len(rows):
                image_gradient[rows] = pull_back(
                    for_rows(draw, rows), inputs[rows], image_gradient[rows]
                )
        return result._replace(gradient=momentum.update(image_gradient))

    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    iterates = Iterates(images, returns, False, facts, select)
    return ascend(images, evaluate, start, epsilon, alpha, steps, iterates=iterates)


class _Momentum:
    """The weighted mean of a gradient and of the last such mean; the first is the gradient."""

    def __init__(self, images: Tensor, decay: float):
        self._last, self._step, self._decay = torch.zeros_like(images), 0, decay

    def update(self, gradient: Tensor) -> Tensor:
        """The mean, NaN for images whose gradient is not finite."""
        self._step += 1
        share = self._step**-self._decay
        finite = is_finite(gradient)
        mean = (share * gradient).add_(self._last, alpha=1 - share)
        self._last = mean.where(finite, self._last)
        return mean.where(finite, torch.nan)


def _weighted(
    losses: Tensor, gradients: Tensor, radius: Tensor, sharpness: float, rounds: int
) -> tuple[Tensor, Tensor]:
    """The weighted mean r of the gradients [D,N,C,H,W] of draws with losses [D,N], see `em_pgd`.

    It is NaN for images without a draw that is finite. `radius` is [N] or [1]. Also the number of
    the draw a: [N].
    """
    shape = gradients.shape[1:]
    gradients, losses = gradients.flatten(2).transpose(0, 1), losses.T.to(gradients.dtype)
    finite = losses.isfinite() & gradients.sum(2, dtype=torch.float64).isfinite()
    gradients = gradients.where(finite[:, :, None], 0)
    losses = losses.where(finite, 0)
    rises = radius[:, None, None] * (gradients.sign() @ gradients.mT)
    scores = (functional.elu(losses[:, None] + rises) * finite[:, None]).sum(2)
    leader = scores.where(finite, -torch.inf).argmax(1)
    mean = gradients[torch.arange(len(leader), device=leader.device), leader]
    for _ in range(rounds):
        rise = radius[:, None] * (gradients @ mean.sign()[:, :, None])[:, :, 0]
        log_weights = functional.logsigmoid(sharpness * (losses + rise))
        weights = log_weights.where(finite, -torch.inf).softmax(1)
        mean = (weights[:, None] @ gradients)[:, 0]
    return mean.view(shape), leader
