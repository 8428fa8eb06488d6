"""Probes of a sound defence, and of four that break what attacks rely on."""

import numpy as np
import pytest
import torch
from torch import nn

from advdenoise.io.json_files import read_json
from advdenoise.purifiers import basic
from advdenoise.purifiers._descent import Gradient, descend
from advdenoise.stages import probe
from advdenoise.stages.data import Batch

N = 12
SOUND = {
    "accuracy_range": 0,
    "logit_distance": 0,
    "hidden_randomness": False,
    "loop": False,
    "softmax": False,
    "train_mode": False,
}


def plain(images, noise):
    return basic.none(images)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(N, 1, 6, 6, generator=generator)
    return Batch(slice(0, N), images, torch.arange(N) % 3, np.arange(N))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval().requires_grad_(False)


class Applied(nn.Module):
    """A function of a network's outputs."""

    def __init__(self, network, function):
        super().__init__()
        self.network, self.function = network, function
        self.eval()

    def forward(self, images):
        return self.function(self.network(images))


def differences(result: dict) -> dict:
    """What is not as in a sound defence; measures of rounding as whether they count."""
    measured = result | {"batch": result.get("batch_distance", 0) > 1e-4}
    return {
        name: measured[name]
        for name in (*SOUND, "batch")
        if measured[name] != SOUND.get(name, False)
    }


def test_a_sound_network_shows_nothing(network, batch):
    result = probe.probe_defence(network, plain, batch, 0)
    assert differences(result) == {} and 0 < result["instability"] < 1


def test_a_quantised_network_changes_in_jumps_or_not_at_all(network, batch):
    """Rounded outputs: nothing but the instability can show it."""
    flat = Applied(network, lambda z: 100 * torch.eye(3)[z.argmax(1)])
    smooth = probe.probe_defence(Applied(network, lambda z: 100 * z), plain, batch, 0)
    result = probe.probe_defence(flat, plain, batch, 0)
    assert differences(result) == {}
    assert result["instability"] < smooth["instability"]


def test_a_network_that_flips_coins_hides_random_numbers(network, batch):
    def flip(outputs):
        heads = torch.rand(len(outputs), 1) < 0.5
        return outputs.where(heads, outputs.roll(1, 1))

    torch.manual_seed(3)
    result = probe.probe_defence(Applied(network, flip), plain, batch, 0)
    assert differences(result).keys() == {"accuracy_range", "logit_distance", "hidden_randomness"}
    assert not {"instability", "batch_distance"} & result.keys()


def test_noise_that_is_listed_is_not_hidden(network, batch):
    def noisy(images, noise):
        return images + noise.normal(images, 0.5)

    result = probe.probe_defence(network, noisy, batch, 0)
    assert differences(result).keys() <= {"accuracy_range", "logit_distance"}
    assert result["logit_distance"] > 1e-2 and "instability" in result


def test_probabilities_are_told_from_logits(network, batch):
    softened = Applied(network, lambda z: z.softmax(1))
    assert differences(probe.probe_defence(softened, plain, batch, 0)) == {"softmax": True}


def test_batch_norm_in_training_mode_depends_on_the_batch(batch):
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 3)).requires_grad_(False)
    result = probe.probe_defence(network.train(), plain, batch, 0)
    assert result["train_mode"] and result["batch_distance"] > 1e-2
    result = probe.probe_defence(network.eval(), plain, batch, 0)
    assert differences(result) == {}


def test_a_purifier_that_descends_is_a_loop(network, batch):
    def error(images):
        return (images - 0.5 * images).square().flatten(1).sum(1)

    descent = probe.probe_defence(
        network, lambda images, noise: descend(images, error, 2, Gradient(0.01)), batch, 0
    )
    assert differences(descent) == {"loop": True}
    grad = torch.autograd.grad
    probe.probe_defence(network, plain, batch, 0)
    assert torch.autograd.grad is grad


def test_instability_is_the_relative_change_of_the_margin(network, batch):
    """Of a linear network, against points drawn here."""

    def margins(images):
        outputs = network(images)
        own = outputs.gather(1, batch.labels[:, None])[:, 0]
        return own - outputs.scatter(1, batch.labels[:, None], -torch.inf).amax(1)

    before, changes = margins(batch.images), []
    for _ in range(1000):
        step = (torch.rand_like(batch.images) * 2 - 1) * 4 / 255
        moved = margins((batch.images + step).clamp(0, 1))
        changes.append(((moved - before) / before).abs().clamp(max=1))
    expected = torch.stack(changes).mean().item()
    result = probe.probe_defence(network, plain, batch, 0)
    assert result["instability"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("purifier", ["none", "direct"])
def test_the_job_writes_every_point(world, purifier):
    path = world.make(f"seed0/digits/probes/{purifier}/small/few.json")
    value = read_json(path)
    assert value["images"] == 12 and list(value["points"]) == ["default"]
    assert differences(value["points"]["default"]) == {}
