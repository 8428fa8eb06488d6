"""Images replaced by the nearest that a generator makes."""

import math

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.purifiers._checks import check_images
from advdenoise.purifiers._descent import State, taken
from advdenoise.ranges import Decay, PositiveFloat, PositiveInt

_LATE, _SLOWER = 0.8, 0.1  # after this share of the steps the rate is so many times the first


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
    """G(z*), z* being the code whose image is nearest (Defense-GAN, Samangouei et al. 2018, eq. 5).

    For each image `restarts` codes are drawn from N(0, 1 / latent), whatever the generator was
    trained with, as in the authors' program, and take `steps` steps of gradient descent with
    momentum on the mean squared error to the image: v <- momentum v + dMSE/dz, z <- z - rate v, the
    rate a tenth after 80 % of the steps. The code that ends with the smallest error is taken. It
    can be differentiated through its steps, except for which code is the best.

    What it is handed: `images` float [N,1,28,28] in [0,1]; `generate` the generator, codes ->
    images; `noise`, one random stream per image. Raises BadInput for an empty batch, values that
    are not finite or lie outside [0,1], no generator, and one of images of another shape.
    """
    check_images(images)
    if generate is None:
        raise BadInput(
            "gan.defense_gan: its denoiser is no generator; name one of `gan.` as `denoiser`"
        )
    follow = torch.is_grad_enabled() and images.requires_grad
    first = noise.normal(images.new_empty(len(images), restarts, *generate.codes))
    codes = (first * math.prod(generate.codes) ** -0.5).to(images.dtype).flatten(0, 1)
    _check_made(generate, codes, images)
    # A copy for each code, and part of the state, so that a gradient reaches the images.
    goals = images.repeat_interleave(restarts, 0)
    state: State = (codes, torch.zeros_like(codes), goals)
    for number in range(steps):
        now = rate * (_SLOWER if number >= _LATE * steps else 1)
        state = taken(_step(generate, now, momentum), state, follow)
    made = generate(state[0])
    with torch.no_grad():
        # NaN would count as the smallest.
        found = _errors(made, goals).nan_to_num(nan=math.inf).view(len(images), restarts)
    best = found.argmin(1) + restarts * torch.arange(len(images), device=images.device)
    return made[best]


def _step(generate: nn.Module, rate: float, momentum: float):
    def step(codes: Tensor, velocity: Tensor, goals: Tensor) -> State:
        follow = torch.is_grad_enabled() and codes.requires_grad
        with torch.enable_grad():
            given = codes if follow else codes.detach().requires_grad_()
            error = _errors(generate(given), goals).sum()
            (gradient,) = torch.autograd.grad(error, given, create_graph=follow)
        velocity = momentum * velocity + gradient
        return codes - rate * velocity, velocity, goals

    return step


def _errors(made: Tensor, goals: Tensor) -> Tensor:
    """Mean squared error of each image: [N]."""
    return (made - goals).square().flatten(1).mean(1)


def _check_made(generate: nn.Module, codes: Tensor, images: Tensor) -> None:
    with torch.no_grad():
        shape = tuple(generate(codes[:1]).shape[1:])
    if shape != tuple(images.shape[1:]):
        made, given = ("x".join(map(str, some)) for some in (shape, images.shape[1:]))
        raise BadInput(
            f"gan.defense_gan: the generator makes images of {made}, these have {given}; name a "
            f"generator for {given}"
        )
