import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.training._optimisers import Optimiser, learning_rate


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    return layers.double().to(memory_format=torch.channels_last)


def descend(model: nn.Module, step, iterations: int = 20) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for _ in range(iterations):
        for parameter in model.parameters():
            parameter.grad = None
        images = torch.rand(8, 2, 6, 6, generator=generator, dtype=torch.float64)
        functional.cross_entropy(model(images), torch.arange(8) % 3).backward()
        step()
    return model


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        ({"name": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
        (
            {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        ),
        (
            {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True},
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        ),
        (
            {"name": "adam", "lr": 0.01, "weight_decay": 0.01},
            lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
        ),
        (
            {"name": "adam", "lr": 0.01, "betas": [0.5, 0.9], "eps": 1e-5},
            lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.9), eps=1e-5),
        ),
        (
            {"name": "rmsprop", "lr": 0.01, "weight_decay": 0.01},
            lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-7, weight_decay=0.01),
        ),
    ],
)
def test_updates_equal_torchs(settings, reference):
    ours, theirs = network(), network()
    optimiser, expected = Optimiser(ours, settings, "net"), reference(theirs.parameters())
    descend(ours, lambda: optimiser.step(settings["lr"]))
    descend(theirs, expected.step)
    assert not torch.equal(ours[0].weight, network()[0].weight)
    for value, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_a_restored_state_continues_exactly(name):
    settings = {"name": name, "lr": 0.01, **({"momentum": 0.9} if name == "sgd" else {})}
    model = network()
    optimiser = Optimiser(model, settings, "net")
    descend(model, lambda: optimiser.step(0.01))
    state, copied = copy.deepcopy(optimiser.state_dict()), copy.deepcopy(model)
    resumed = Optimiser(copied, settings, "net")
    resumed.load_state_dict(state)
    descend(model, lambda: optimiser.step(0.01), 3)
    descend(copied, lambda: resumed.step(0.01), 3)
    for value, other in zip(model.parameters(), copied.parameters(), strict=True):
        assert torch.equal(value, other)


def test_parameters_without_gradient_do_not_count_steps():
    """As in the alternating updates of a GAN, whose halves have their own bias corrections."""
    model, reference = network(), network()
    optimiser = Optimiser(model, {"name": "adam", "lr": 0.01}, "net")
    expected = torch.optim.Adam(reference.parameters(), lr=0.01)

    def without_head(net, step):
        def halved():
            if halved.calls % 2:
                net[3].weight.grad = net[3].bias.grad = None
            halved.calls += 1
            step()

        halved.calls = 0
        return halved

    descend(model, without_head(model, lambda: optimiser.step(0.01)))
    descend(reference, without_head(reference, expected.step))
    for value, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-12)
    optimiser.zero_grad()
    before = copy.deepcopy(model.state_dict())
    optimiser.step(0.01)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_weight_decay_on_convolutions_is_an_l2_term_of_the_loss():
    decayed, penalised = network(), network()
    settings = {"name": "sgd", "lr": 0.1, "weight_decay": 0.2, "weight_decay_on": "convolutions"}
    optimiser = Optimiser(decayed, settings, "net")
    descend(decayed, lambda: optimiser.step(0.1))
    bare = Optimiser(penalised, {"name": "sgd", "lr": 0.1}, "net")

    def step():
        (0.1 * penalised[0].weight.square().sum()).backward()
        bare.step(0.1)

    descend(penalised, step)
    for value, other in zip(decayed.parameters(), penalised.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "sdg", "lr": 1}, "net.name: must be one of sgd, adam, rmsprop, got 'sdg'"),
        (
            {"name": "adam", "lr": 1, "momentum": 0.9},
            "net.momentum: optimiser adam has no such setting",
        ),
        (
            {"name": "sgd", "lr": 1, "weight_decay_on": "x"},
            "net.weight_decay_on: must be all or convolutions, got 'x'",
        ),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(BadInput, match=sentence):
        Optimiser(network(), settings, "net")


def test_learning_rate_follows_schedule_and_decay():
    # The schedule of the ResNet-18 of Kalaria et al. 2022.
    loop = {"optimiser": {"lr": 0.1}, "schedule": {"100": 0.01, "150": 0.001}}
    rates = [learning_rate(loop, epoch, 0) for epoch in (0, 99, 100, 149, 150, 199)]
    assert rates == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    keras = {"optimiser": {"lr": 1e-3, "decay": 1e-6}, "schedule": {75: 5e-4}}
    assert learning_rate(keras, 0, 1000) == pytest.approx(1e-3 / 1.001)
    assert learning_rate(keras, 75, 10**6) == pytest.approx(2.5e-4)
