"""Training a generator against a critic, in turn.

The steps are handed what those of `plain` are; `model` is a generator that has a `critic`, `codes`
and `deviation` (see `denoisers.gan`). A batch serves one of the two: its loss does not reach the
other's parameters, and the loop leaves these, their optimiser's moments and their count of updates
as they are. So one optimiser is two, of equal settings.
"""

import torch
from torch import Tensor, nn

from advdenoise.noise import Noise
from advdenoise.ranges import NonNegativeFloat, PositiveInt
from advdenoise.training._steps import Update, attacked

# What a step returns that trains generators: the configuration reads it without a call.
GeneratorUpdate = Update


def wgan_gp(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    iteration: int,
    *,
    critic_steps: PositiveInt = 5,
    penalty: NonNegativeFloat = 10.0,
) -> GeneratorUpdate:
    """A Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, algorithm 1).

    `critic_steps` batches for the critic D, then one for the generator G, again and again. The
    critic's loss is E D(G(z)) - E D(x) + `penalty` E (|dD(x')/dx'| - 1)^2 with x' at a uniformly
    drawn place on the line from x to G(z), the generator's is - E D(G(z)). Metric `distance`: what
    the critic takes for the distance of the two distributions, E D(x) - E D(G(z)); in eval mode,
    for held-out images, it is told without an update. All is computed in float32: the penalty's
    second derivative does not bear less.
    """
    with torch.autocast(images.device.type, enabled=False):
        codes = noise.normal(images.new_empty(len(images), *model.code_shape), model.code_std)
        for_critic = model.training and iteration % (critic_steps + 1) < critic_steps
        if for_critic:
            return _of_critic(model, images, codes, noise, penalty)
        with attacked(model.critic):  # whose weights get no gradient here
            made = model.critic(model(codes)).mean()
            distance = model.critic(images).mean() - made.detach()
        return -made, {"distance": distance}


def _of_critic(
    model: nn.Module, images: Tensor, codes: Tensor, noise: Noise, penalty: float
) -> Update:
    with torch.no_grad():
        made = model(codes)
    distance = model.critic(images).mean() - model.critic(made).mean()
    place = noise.uniform(images.new_empty(len(images), 1, 1, 1))
    between = images.lerp(made, place).requires_grad_()
    (slope,) = torch.autograd.grad(model.critic(between).sum(), between, create_graph=True)
    excess = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty * excess - distance, {"distance": distance.detach()}
