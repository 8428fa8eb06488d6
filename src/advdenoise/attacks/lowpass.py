"""Attacks that change images by filters."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.attacks._ascent import margin_expectation
from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import Expectation, is_finite
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._predict import Predict, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.ranges import Epsilon, Interval, PositiveInt, Returns, Std, StepSize

# Betas and epsilon of Adam (Kingma & Ba 2015).
BETAS, TINY = (0.9, 0.999), 1e-8
# Pixels are scaled by this before atanh, so that black and white stay finite in tanh space.
SHRINK = 0.999999
# A filter starts as a Gaussian of this standard deviation in pixels, clipped to these weights.
START_SIGMA, START_LIMITS = 0.2, (1e-5, 0.999999)


def filters(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 100,
    sizes: Annotated[Sequence[Annotated[int, Interval(ge=3, le=31)]], Interval(ge=1, le=20)] = (
        5,
        7,
        5,
        3,
    ),
    filter_rate: StepSize = 0.05,
    tanh_rate: StepSize = 0.008,
    sigma_color: Std = 0.05,
    returns: Returns = "best",
) -> Tensor:
    """The "low-frequency" attack on purifiers (DiffBreak, Kassis et al. 2024), inside the ball.

    An image is changed by a shift in tanh space, then by one filter after the other, whose weights
    differ from pixel to pixel and are the same for all channels and for mirrored places. The
    neighbour q of a pixel p has the weight
    softmax(logits)(q) exp(-|x(p) - x(q)|_1^2 / (2 `sigma_color`^2)) with the clean image's colours
    x, so that edges stay. Adam lowers the margin in shift and logits, with each image's gradient in
    each of them clipped to the L2 norm 1; the start is nearly the image itself.

    The authors penalise a perceptual distance. Here the difference to the image is clipped to the
    ball, and the gradient passes as if it were not. An image does not move in a step whose gradient
    is not finite.

    Args:
        images: [N,C,H,W] in [0,1].
        labels: int64 [N].
        predict: images -> logits; the gradient is the mean over its draws.
        epsilon: radius of the L-infinity ball in pixel units, a number or [N,1,1,1].
        sizes: sides of the filters in pixels, odd numbers. The authors take more for larger images.
        filter_rate, tanh_rate: learning rates of the logits and of the shift.
        sigma_color: standard deviation of colours, of the sum of differences over the channels.

    Raises:
        BadInput: an even size, a filter that is too large for the images, or masks.
    """
    refuse_masks(labels, "lowpass.filters")
    _check_sizes(sizes, images.shape[2:])
    lower, upper = limits(images, epsilon)
    centre = (images * 2).sub_(1).mul_(SHRINK).atanh_()
    colours = [_colour_weights(images, size, sigma_color) for size in sizes]
    variables = [torch.zeros_like(images), *(_start(images, size) for size in sizes)]
    adam = _Adam(variables, [tanh_rate, *[filter_rate] * len(sizes)])
    iterates = Iterates(images, returns, False, facts, select)

    def evaluate(
        perturbation: Tensor, network: Predict = predict, gradient: bool = False
    ) -> Expectation:
        inputs = images + perturbation
        return margin_expectation(inputs, labels, targeted, network, math.inf, gradient)

    for step in range(steps + 1):
        with torch.enable_grad():
            leaves = [variable.detach().requires_grad_() for variable in variables]
            changed = _changed(centre + leaves[0], leaves[1:], colours, sizes)
        perturbation = (changed.detach() - images).clamp_(lower, upper)
        result = evaluate(perturbation, gradient=step < steps)
        iterates.visit(perturbation, result, step, steps, final=step == steps)
        if result.gradient is not None:
            finite = is_finite(result.gradient)
            image_gradient = result.gradient.where(finite, 0).to(images.dtype)
            adam.ascend(torch.autograd.grad(changed, leaves, image_gradient), finite)
    return iterates.choose(perturbation, lambda network, p: evaluate(p, network))


def _check_sizes(sizes: Sequence[int], image: torch.Size) -> None:
    for place, size in enumerate(sizes):
        if size % 2 == 0:
            raise BadInput(f"settings.sizes.{place}: must be odd, got {size}")
        if size // 2 >= min(image):
            raise BadInput(
                f"settings.sizes.{place}: a filter of {size} needs images of at least "
                f"{size // 2 + 1} pixels, but these have {min(image)}"
            )


def _changed(
    inputs: Tensor, logits: Sequence[Tensor], colours: Sequence[Tensor], sizes: Sequence[int]
) -> Tensor:
    """The images of `inputs` in tanh space after all filters: [N,C,H,W] in [0,1]."""
    images = (inputs.tanh() + 1) / 2
    for quarter, colour, size in zip(logits, colours, sizes, strict=True):
        weights = (quarter[:, _mirrored(size, images.device)] + colour).softmax(1)
        images = (_neighbours(images, size) * weights[:, None]).sum(2)
    return images


def _neighbours(images: Tensor, size: int) -> Tensor:
    """The `size` x `size` pixels around each pixel, reflected at the edges: [N,C,size^2,H,W]."""
    padded = functional.pad(images, [size // 2] * 4, mode="reflect")
    windows = functional.unfold(padded, size)
    return windows.view(*images.shape[:2], size**2, *images.shape[2:])


def _colour_weights(images: Tensor, size: int, sigma: float) -> Tensor:
    """Logarithms of the weights of colours: [N,size^2,H,W]."""
    differences = (_neighbours(images, size) - images[:, :, None]).abs().sum(1)
    return differences.square_().div_(-2 * sigma**2)


def _mirrored(size: int, device: torch.device) -> Tensor:
    """Of each of the size^2 places, which one of the upper left quarter is its mirror image."""
    half = (size + 1) // 2
    side = torch.arange(size, device=device)
    side = torch.minimum(side, size - 1 - side)
    return (side[:, None] * half + side).flatten()


def _start(images: Tensor, size: int) -> Tensor:
    """The logits of a narrow Gaussian, of the upper left quarter: [N,((size + 1) / 2)^2,H,W]."""
    half = (size + 1) // 2
    side = torch.arange(half, device=images.device, dtype=images.dtype) - (half - 1)
    squares = (side[:, None].square() + side.square()).flatten()
    logits = squares.div_(-2 * START_SIGMA**2).exp_().clamp_(*START_LIMITS).log_()
    count, _, height, width = images.shape
    return logits.view(1, -1, 1, 1).repeat(count, 1, height, width)


class _Adam:
    """Adam for variables [N,...] of which each image's gradient is clipped to the L2 norm 1."""

    def __init__(self, variables: list[Tensor], rates: Sequence[float]):
        self._variables, self._rates, self._step = variables, rates, 0
        self._means = [torch.zeros_like(variable) for variable in variables]
        self._squares = [torch.zeros_like(variable) for variable in variables]

    def ascend(self, gradients: Sequence[Tensor], finite: Tensor) -> None:
        """Take a step along the gradients; images that are not `finite` [N,1,1,1] do not move."""
        self._step += 1
        beta1, beta2 = BETAS
        states = zip(
            self._variables, gradients, self._rates, self._means, self._squares, strict=True
        )
        for variable, gradient, rate, mean, square in states:
            norm = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            gradient = gradient / norm.clamp(min=1)
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            size = square.div(1 - beta2**self._step).sqrt_().add_(TINY)
            variable.add_(mean / size * (finite * (rate / (1 - beta1**self._step))))
