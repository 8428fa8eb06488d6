"""Alternating training of a generator and its critic.

Arguments are those of the steps in `plain`; `model` is a generator with a `critic`, a `code_shape`
and a `code_std` (see `denoisers.gan`). Each batch updates one of the two: its loss does not reach
the other's parameters, and the loop leaves these, their moments and their step counts unchanged. So
one optimiser acts as two with equal settings.
"""

import torch
from torch import Tensor, nn

from advdenoise.noise import Noise
from advdenoise.ranges import NonNegativeFloat, PositiveInt
from advdenoise.training._steps import Update, frozen

# Return annotation of steps that train generators: the configuration reads it without a call.
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

    `critic_steps` batches update the critic D, then one the generator G, and so on. The critic's
    loss is E D(G(z)) - E D(x) + `penalty` E (|dD(x')/dx'| - 1)^2, with x' uniform on the line from
    x to G(z); the generator's is - E D(G(z)). Metric `distance`: the critic's estimate of the
    Wasserstein distance, E D(x) - E D(G(z)), also in eval mode for held-out images. Computed in
    float32, which the second derivative of the penalty needs.
    """
    with torch.autocast(images.device.type, enabled=False):
        codes = noise.normal(images.new_empty(len(images), *model.code_shape), model.code_std)
        updates_critic = model.training and iteration % (critic_steps + 1) < critic_steps
        if updates_critic:
            return _critic_update(model, images, codes, noise, penalty)
        with frozen(model.critic):
            score = model.critic(model(codes)).mean()
            distance = model.critic(images).mean() - score.detach()
        return -score, {"distance": distance}


def _critic_update(
    model: nn.Module, images: Tensor, codes: Tensor, noise: Noise, penalty: float
) -> Update:
    with torch.no_grad():
        generated = model(codes)
    distance = model.critic(images).mean() - model.critic(generated).mean()
    position = noise.uniform(images.new_empty(len(images), 1, 1, 1))
    between = images.lerp(generated, position).requires_grad_()
    (gradient,) = torch.autograd.grad(model.critic(between).sum(), between, create_graph=True)
    gradient_penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty * gradient_penalty - distance, {"distance": distance.detach()}
