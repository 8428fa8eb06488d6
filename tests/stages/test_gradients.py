"""Passes of an attack's networks, counted by the monitor around them."""

import pytest
import torch
from torch import nn

from advdenoise.attacks import gradient, minimal
from advdenoise.attacks._predict import for_rows, per_draw
from advdenoise.inference.purified import PurifiedClassifier
from advdenoise.noise import Noise
from advdenoise.stages.gradients import GradientMonitor, Passes

N, STEPS = 4, 3
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture
def images():
    return torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval().requires_grad_(False)


def random_network(network, draws: int) -> PurifiedClassifier:
    noises = [Noise(0, range(N), "x", draw=draw) for draw in range(draws)]
    return PurifiedClassifier(lambda x, noise: network(x + noise.normal(x, 0.1)), noises)


def counts(passes: Passes) -> dict[str, list[int]]:
    return {name: array.tolist() for name, array in passes.arrays().items()}


@pytest.mark.parametrize("draws", [None, 1, 3])
def test_an_iterative_attack_passes_as_often_as_it_has_steps_and_draws(images, network, draws):
    passes = Passes(N)
    predict = network if draws is None else random_network(network, draws)
    monitored = GradientMonitor(predict, passes)
    result = gradient.bim(images, LABELS, False, monitored, epsilon=0.1, steps=STEPS, alpha=0.1)
    expected = [STEPS * (draws or 1)] * N
    none = [0] * N
    assert counts(passes) == {
        "forward": expected,
        "backward": expected,
        "zero_gradients": none,
        "bad_gradients": none,
    }
    again = network if draws is None else random_network(network, draws)
    plain = gradient.bim(images, LABELS, False, again, epsilon=0.1, steps=STEPS, alpha=0.1)
    assert torch.equal(result, plain)


def test_the_mean_over_draws_is_as_many_passes(images, network):
    passes = Passes(N)
    inputs = images.requires_grad_()
    GradientMonitor(random_network(network, 5), passes)(inputs).sum().backward()
    assert counts(passes)["forward"] == counts(passes)["backward"] == [5] * N


def test_gradients_of_one_input_are_counted_call_by_call(images, network):
    passes = Passes(N)
    monitored = GradientMonitor(random_network(network, 3), passes)
    inputs = images.requires_grad_()
    for draw in per_draw(monitored):
        torch.autograd.grad(draw(inputs).sum(), inputs)
    assert counts(passes)["backward"] == [3] * N


def test_a_pass_without_a_gradient_is_forward_alone(images, network):
    passes = Passes(N)
    with torch.no_grad():
        GradientMonitor(network, passes)(images)
    assert counts(passes)["forward"] == [1] * N and counts(passes)["backward"] == [0] * N


def test_rows_of_rows_count_for_their_images(images, network):
    passes = Passes(N)
    some = for_rows(GradientMonitor(network, passes), torch.tensor([1, 3]))
    some(images[[1, 3]])
    for_rows(some, torch.tensor([1]))(images[[3]])
    assert counts(passes)["forward"] == [0, 1, 0, 2]


def test_an_attack_that_stops_passes_less_often_on_what_it_fools(images, network):
    passes = Passes(N)
    wrong = LABELS.clone()
    wrong[0] = (network(images)[0].argmax() + 1) % 3
    wrong[1:] = network(images)[1:].argmax(1)
    minimal.deepfool(images, wrong, GradientMonitor(network, passes))
    forward = counts(passes)["forward"]
    assert forward[0] == 1 and min(forward[1:]) > 1


def test_zero_and_bad_gradients_are_counted_for_each_image(images, network):
    """Image 0 is rounded, 1 divides by 0; of 2 the gradient is tiny and not 0."""

    def strange(inputs):
        rounded, infinite, tiny, usual = inputs.split(1)
        infinite = (infinite - infinite.detach()).sqrt()
        return network(torch.cat([rounded.round(), infinite, 1e-30 * tiny, usual]))

    passes = Passes(N)
    gradient.bim(
        images, LABELS, False, GradientMonitor(strange, passes), epsilon=0.1, steps=STEPS, alpha=0.1
    )
    assert counts(passes)["zero_gradients"] == [STEPS, 0, 0, 0]
    assert counts(passes)["bad_gradients"] == [0, STEPS, 0, 0]
    assert passes.lost.tolist() == [False, True, False, False]
