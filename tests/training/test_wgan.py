"""WGAN-GP: losses by hand, whose turn it is, and that an interruption changes nothing."""

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
    model, given = network(), images()
    loss, metrics = wgan_gp(model, given, Noise(0, range(6), "x"), 0, penalty=7.0)
    noise = Noise(0, range(6), "x")
    made = model(noise.normal(given.new_empty(6, 4, 1, 1), 0.5)).detach()
    place = noise.uniform(given.new_empty(6, 1, 1, 1))
    total, distance = 0.0, 0.0
    for real, fake, share in zip(given, made, place, strict=True):
        between = ((1 - share) * real + share * fake)[None].requires_grad_()
        (slope,) = torch.autograd.grad(model.critic(between).sum(), between)
        gap = model.critic(real[None]).item() - model.critic(fake[None]).item()
        total += 7.0 * (slope.square().sum().sqrt().item() - 1) ** 2 - gap
        distance += gap
    assert loss.item() == pytest.approx(total / 6, rel=1e-4)
    assert metrics["distance"].item() == pytest.approx(distance / 6, abs=1e-6)
    loss.backward()
    assert all(p.grad is None for p in model.generator.parameters())
    # No bias shifts a slope or a difference of means, so the last one alone may have none.
    assert all(p.grad.any() for p in list(model.critic.parameters())[:-1])


@pytest.mark.parametrize(("prior", "deviation"), [("scaled", 0.5), ("normal", 1.0)])
def test_the_generators_loss_by_hand(prior, deviation):
    model, given = network(prior=prior), images()
    loss, metrics = wgan_gp(model, given, Noise(0, range(6), "x"), 5)
    made = model(Noise(0, range(6), "x").normal(given.new_empty(6, 4, 1, 1), deviation))
    assert loss.item() == pytest.approx(-model.critic(made).mean().item(), rel=1e-5)
    gap = model.critic(given).mean() - model.critic(made).mean()
    assert metrics["distance"].item() == pytest.approx(gap.item(), abs=1e-6)
    loss.backward()
    assert all(p.grad.any() for p in model.generator.parameters())
    assert all(p.grad is None and p.requires_grad for p in model.critic.parameters())


@pytest.mark.parametrize("critic_steps", [1, 5])
def test_five_batches_for_the_critic_then_one_for_the_generator(critic_steps):
    model, given = network(), images()
    turns = []
    for iteration in range(12):
        model.zero_grad(set_to_none=True)
        noise = Noise(0, range(6), "x", draw=iteration)
        loss, _ = wgan_gp(model, given, noise, iteration, critic_steps=critic_steps)
        loss.backward()
        moved = [part.weight.grad is not None for part in (model.critic[0], model.generator.dense)]
        assert sum(moved) == 1
        turns.append(moved[1])
    assert turns == [i % (critic_steps + 1) == critic_steps for i in range(12)]


def test_held_out_images_are_judged_without_an_update():
    model, given = network().eval(), images()
    with torch.no_grad():
        _, metrics = wgan_gp(model, given, Noise(0, range(6), "x"), 0)
    assert metrics["distance"].isfinite() and not model.training


def train(state, after=None) -> tuple[dict, list]:
    """Two epochs on 40 images, stopped in the batch of number `after`."""
    model = network()
    pixels = (255 * images(40)).byte()
    examples = Mixture(pixels, torch.zeros(40, dtype=torch.int64), range(40), [Part(1.0)])

    def step(model, images, noise, iteration):
        if iteration == after:
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


@pytest.mark.parametrize("after", [1, 2, 4, 6])
def test_an_interrupted_training_goes_on_to_the_very_weights(tmp_path, after):
    """Also where the next update is the generator's, or the epoch's last."""
    whole, history = train(tmp_path / "whole")
    with pytest.raises(Preempted):
        train(tmp_path / "broken", after)
    resumed, again = train(tmp_path / "broken")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())
    untimed = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
        for rows in (history, again)
    ]
    assert untimed[0] == untimed[1] and {row["metric"] for row in history} == {"distance"}


def test_a_generator_learns_to_make_what_it_is_shown(tmp_path):
    """Images of one bright half: what is made comes to have it too."""
    torch.manual_seed(0)
    model = wgan((1, 28, 28), latent=4, width=4, prior="scaled")
    shown = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    shown[:, :, :14] = 255
    examples = Mixture(shown, torch.zeros(64, dtype=torch.int64), range(64), [Part(1.0)])
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
        made = model(torch.randn(32, 4, 1, 1, generator=torch.Generator().manual_seed(3)) / 2)
    assert made[:, :, 1:13].mean() > made[:, :, 15:27].mean() + 0.3
