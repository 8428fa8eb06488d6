"""WGAN-GP: losses by hand, alternation of updates, interruptions."""

import signal

import pytest
import torch
from torch import nn

from advdenoise.denoisers.gan import wgan
from advdenoise.errors import Preempted
from advdenoise.noise import Noise
from advdenoise.training import _loop
from advdenoise.training._examples import Mixture, Part
from advdenoise.training.gan import wgan_gp

LOOP = {"epochs": 2, "batch": 8, "optimiser": {"name": "adam", "lr": 1e-3, "betas": [0.5, 0.9]}}


def network(seed: int = 0, prior: str = "scaled") -> nn.Module:
    torch.manual_seed(seed)
    return wgan((1, 28, 28), latent=4, width=2, prior=prior)


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def test_the_critics_loss_by_hand():
    model, real_images = network(), images()
    loss, metrics = wgan_gp(model, real_images, Noise(0, range(6), "x"), 0, penalty=7.0)
    noise = Noise(0, range(6), "x")
    generated = model(noise.normal(real_images.new_empty(6, 4, 1, 1), 0.5)).detach()
    position = noise.uniform(real_images.new_empty(6, 1, 1, 1))
    total, distance = 0.0, 0.0
    for real, fake, share in zip(real_images, generated, position, strict=True):
        between = ((1 - share) * real + share * fake)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(model.critic(between).sum(), between)
        gap = model.critic(real[None]).item() - model.critic(fake[None]).item()
        total += 7.0 * (gradient.square().sum().sqrt().item() - 1) ** 2 - gap
        distance += gap
    assert loss.item() == pytest.approx(total / 6, rel=1e-4)
    assert metrics["distance"].item() == pytest.approx(distance / 6, abs=1e-6)
    loss.backward()
    assert all(p.grad is None for p in model.generator.parameters())
    # Only the last bias cancels in both terms and has a zero gradient.
    assert all(p.grad.any() for p in list(model.critic.parameters())[:-1])


@pytest.mark.parametrize(("prior", "deviation"), [("scaled", 0.5), ("normal", 1.0)])
def test_the_generators_loss_by_hand(prior, deviation):
    model, real_images = network(prior=prior), images()
    loss, metrics = wgan_gp(model, real_images, Noise(0, range(6), "x"), 5)
    generated = model(Noise(0, range(6), "x").normal(real_images.new_empty(6, 4, 1, 1), deviation))
    assert loss.item() == pytest.approx(-model.critic(generated).mean().item(), rel=1e-5)
    gap = model.critic(real_images).mean() - model.critic(generated).mean()
    assert metrics["distance"].item() == pytest.approx(gap.item(), abs=1e-6)
    loss.backward()
    assert all(p.grad.any() for p in model.generator.parameters())
    assert all(p.grad is None and p.requires_grad for p in model.critic.parameters())


@pytest.mark.parametrize("critic_steps", [1, 5])
def test_five_batches_for_the_critic_then_one_for_the_generator(critic_steps):
    model, real_images = network(), images()
    turns = []
    for iteration in range(12):
        model.zero_grad(set_to_none=True)
        noise = Noise(0, range(6), "x", draw=iteration)
        loss, _ = wgan_gp(model, real_images, noise, iteration, critic_steps=critic_steps)
        loss.backward()
        parts = (model.critic[0], model.generator.dense)
        updated = [part.weight.grad is not None for part in parts]
        assert sum(updated) == 1
        turns.append(updated[1])
    assert turns == [i % (critic_steps + 1) == critic_steps for i in range(12)]


def test_held_out_images_give_the_distance():
    model, real_images = network().eval(), images()
    with torch.no_grad():
        _, metrics = wgan_gp(model, real_images, Noise(0, range(6), "x"), 0)
    assert metrics["distance"].isfinite() and not model.training


def train(state, stop_at=None) -> tuple[dict, list]:
    """Two epochs on 40 images, stopped in the batch `stop_at`."""
    model = network()
    pixels = (255 * images(40)).byte()
    examples = Mixture(pixels, torch.zeros(40, dtype=torch.int64), range(40), [Part(1.0)])

    def step(model, images, noise, iteration):
        if iteration == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return wgan_gp(model, images, noise, iteration, critic_steps=2)

    history = _loop.train(
        model,
        step,
        examples,
        LOOP,
        seed=0,
        name="denoisers.gan",
        state=state,
        digest="same",
        device="cpu",
        held_out=examples,
    )
    return model.state_dict(), history


@pytest.mark.parametrize("stop_at", [1, 2, 4, 6])
def test_an_interrupted_training_is_bit_equal(tmp_path, stop_at):
    """Also before an update of the generator and in the last batch of an epoch."""
    uninterrupted, history = train(tmp_path / "whole")
    with pytest.raises(Preempted):
        train(tmp_path / "broken", stop_at)
    resumed, again = train(tmp_path / "broken")
    assert uninterrupted.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[name]) for name, weight in uninterrupted.items())
    untimed = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
        for rows in (history, again)
    ]
    assert untimed[0] == untimed[1] and {row["metric"] for row in history} == {"distance"}


def test_a_generator_learns_the_training_images(tmp_path):
    """The upper half of the training images is bright, and then that of the generated ones."""
    torch.manual_seed(0)
    model = wgan((1, 28, 28), latent=4, width=4, prior="scaled")
    pixels = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    pixels[:, :, :14] = 255
    examples = Mixture(pixels, torch.zeros(64, dtype=torch.int64), range(64), [Part(1.0)])
    _loop.train(
        model,
        lambda model, images, noise, iteration: wgan_gp(
            model, images, noise, iteration, critic_steps=2
        ),
        examples,
        LOOP | {"epochs": 40, "batch": 16, "optimiser": {**LOOP["optimiser"], "lr": 0.01}},
        seed=0,
        name="denoisers.gan",
        state=tmp_path,
        digest="same",
        device="cpu",
    )
    with torch.no_grad():
        generated = model(torch.randn(32, 4, 1, 1, generator=torch.Generator().manual_seed(3)) / 2)
    assert generated[:, :, 1:13].mean() > generated[:, :, 15:27].mean() + 0.3
