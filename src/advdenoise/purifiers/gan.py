"""Purifiers that replace an image by the nearest output of a generator."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.purifiers._checks import check_images
from advdenoise.purifiers._descent import State, run_step
from advdenoise.ranges import Decay, PositiveFloat, PositiveInt

_DECAY_AT, _DECAY = 0.8, 0.1  # share of the steps after which the rate is multiplied by the second


def defense_gan(
    images: Tensor,
    generate: nn.Module | None,
    noise: Noise,
    *,
    steps: PositiveInt = 200,
    restarts: PositiveInt = 10,
    rate: PositiveFloat = 10.0,
    momentum: Decay = 0.7,
) -> Tensor:
    """G(z*), where z* is the code with the nearest output (Samangouei et al. 2018, equation 5).

    For each image `restarts` codes are drawn from N(0, 1 / latent) (whatever the generator was
    trained with, as in the authors' program), and each takes `steps` steps of gradient descent with
    momentum on the mean squared error to the image: v <- momentum v + dMSE/dz, z <- z - rate v. The
    rate is divided by 10 after 80 % of the steps. The code with the smallest final error is used.
    The result can be differentiated through the steps, with the choice of the code held fixed.

    Args:
        images: float [N,1,28,28] in [0,1].
        generate: the generator, codes -> images.
        noise: one random stream per image.

    Raises:
        BadInput: an empty batch, values that are not finite or outside [0,1], no generator, or one
            of images of another shape.
    """
    check_images(images)
    if generate is None:
        raise BadInput(
            "gan.defense_gan: `denoiser` must be a generator, such as gan.wgan, got another network"
        )
    differentiable = torch.is_grad_enabled() and images.requires_grad
    random = noise.normal(images.new_empty(len(images), restarts, *generate.code_shape))
    codes = (random * math.prod(generate.code_shape) ** -0.5).to(images.dtype).flatten(0, 1)
    _check_outputs(generate, codes, images)
    # One copy per code, and part of the state, so that a gradient reaches the images.
    targets = images.repeat_interleave(restarts, 0)
    state: State = (codes, torch.zeros_like(codes), targets)
    for number in range(steps):
        current_rate = rate * (_DECAY if number >= _DECAY_AT * steps else 1)
        state = run_step(_step(generate, current_rate, momentum), state, differentiable)
    outputs = generate(state[0])
    with torch.no_grad():
        # argmin would take NaN for the smallest.
        errors = _errors(outputs, targets).nan_to_num(nan=math.inf).view(len(images), restarts)
    best = errors.argmin(1) + restarts * torch.arange(len(images), device=images.device)
    return outputs[best]


def _step(generate: nn.Module, rate: float, momentum: float) -> Callable[..., State]:
    def step(codes: Tensor, velocity: Tensor, targets: Tensor) -> State:
        differentiable = torch.is_grad_enabled() and codes.requires_grad
        with torch.enable_grad():
            inputs = codes if differentiable else codes.detach().requires_grad_()
            error = _errors(generate(inputs), targets).sum()
            (gradient,) = torch.autograd.grad(error, inputs, create_graph=differentiable)
        velocity = momentum * velocity + gradient
        return codes - rate * velocity, velocity, targets

    return step


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error of each image: [N]."""
    return (outputs - targets).square().flatten(1).mean(1)


def _check_outputs(generate: nn.Module, codes: Tensor, images: Tensor) -> None:
    with torch.no_grad():
        shape = tuple(generate(codes[:1]).shape[1:])
    if shape != tuple(images.shape[1:]):
        actual, expected = ("x".join(map(str, sizes)) for sizes in (shape, images.shape[1:]))
        raise BadInput(
            f"gan.defense_gan: the generator returns images of {actual}, but the images have "
            f"{expected}; choose a generator for {expected}"
        )
