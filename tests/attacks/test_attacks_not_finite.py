"""Attacks on what gives no finite numbers for some images: nothing is frozen, nothing is robust."""

import pytest
import torch
from torch import nn

from advdenoise.attacks import blackbox, gradient, minimal, stopped
from advdenoise.attacks._ascent import ascend, entropy_slope
from advdenoise.attacks._predict import margin
from advdenoise.noise import Noise
from advdenoise.stages import models
from advdenoise.stages.gradients import Watched

NAN, INF = float("nan"), float("inf")
LABELS = torch.tensor([0, 1, 2, 0])
LOST = torch.tensor([True, False, True, False])  # images of the first and third row


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)]
    network = nn.Sequential(*layers).eval().requires_grad_(False)
    with torch.no_grad():
        network[3].weight.mul_(4)
        wanted = 3.0 * nn.functional.one_hot(LABELS, 3).float()
        network[3].bias.copy_((wanted - network(images()))[1])
    return network


def images():
    """Lost ones are bright: beyond 0.5 in the first pixel."""
    found = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.1
    found[LOST, 0, 0, 0] = 0.9
    return found


def broken(network):
    """The network behind what diverges for bright images, whatever is done to them."""

    def predict(given):
        lost = given[:, :, :1, :1] > 0.5
        return network(given * torch.where(lost, INF, 1.0) - torch.where(lost, INF, 0.0))

    return predict


def test_margins_of_no_class():
    outputs = torch.tensor([[1.0, 2.0], [NAN, 2.0], [1.0, INF], [1.0, -INF]])
    labels = torch.tensor([0, 0, 1, 0])
    assert margin(outputs, labels, False).tolist() == [-1.0, -INF, -INF, -INF]
    assert margin(outputs, labels, True).tolist() == [1.0, INF, INF, INF]


def runs(network, targeted=False):
    predict, labels = broken(network), LABELS
    noise = Noise(0, range(4), "x")
    return {
        "deepfool": lambda: minimal.deepfool(images(), labels, predict),
        "carlini_wagner": lambda: minimal.carlini_wagner(
            images(),
            labels,
            targeted,
            predict,
            binary_search_steps=3,
            steps=40,
            initial_const=100.0,
            stepsize=0.1,
        ),
        "square": lambda: blackbox.square(
            images(), labels, targeted, predict, noise, epsilon=0.3, queries=5
        ),
        "line_search": lambda: stopped.line_search(
            images(), labels, targeted, predict, predict, lambda points: None, steps=5
        ),
        "i_fgsm": lambda: stopped.i_fgsm(
            images(), labels, targeted, predict, predict, lambda points: None, steps=3, alpha=0.05
        ),
        "pgd": lambda: gradient.pgd(
            images(), labels, targeted, predict, noise, epsilon=0.1, steps=2, alpha=0.05
        ),
    }


@pytest.mark.parametrize("name", ["deepfool", "carlini_wagner", "square", "line_search", "i_fgsm"])
def test_images_without_outputs_are_fooled_already(network, name):
    """Those of class 0, which is the place that argmax has for NaN, as well as those of class 2."""
    result = runs(network)[name]()
    assert result.isfinite().all() and (result[LOST] == 0).all()
    right = network(images()).argmax(1) == LABELS
    assert right[1] and result[1].abs().max() > 0


@pytest.mark.parametrize("name", ["carlini_wagner", "square", "line_search", "i_fgsm", "pgd"])
def test_no_target_is_reached_there(network, name):
    result = runs(network, targeted=True)[name]()
    assert result.isfinite().all()


def test_a_gradient_of_huge_numbers_is_finite():
    huge = torch.full((2, 1, 4, 4), 3e38)
    huge[1, 0, 0, 0] = NAN
    result = ascend(images()[:2], lambda points: huge.clone(), None, 0.1, 0.05, 1)
    assert (result[0] > 0).all() and (result[1] == 0).all()


class Drawn:
    """Behind a purifier of three draws, the second of which diverges for bright images."""

    def __init__(self, network):
        self.each = [network, broken(network), network]


def test_a_draw_without_a_finite_gradient_is_left_out(network):
    result = entropy_slope(images(), LABELS, Drawn(network))
    one = entropy_slope(images(), LABELS, network)
    assert torch.allclose(result[LOST], 2 * one[LOST]) and torch.allclose(
        result[~LOST], 3 * one[~LOST]
    )
    nowhere = entropy_slope(images(), LABELS, broken(network))
    assert not nowhere[LOST].isfinite().any() and torch.equal(nowhere[~LOST], one[~LOST])


def test_the_mean_over_draws_is_that_of_finite_outputs(network):
    noises = [Noise(0, range(4), "x", draw=draw) for draw in range(3)]
    ways = dict(zip(noises, Drawn(network).each, strict=True))
    result = models.Behind(lambda given, noise: ways[noise](given), noises)(images())
    assert torch.allclose(result, network(images()))
    every = models.Behind(lambda given, noise: broken(network)(given), noises)(images())
    assert every[LOST].isnan().all() and torch.allclose(every[~LOST], network(images())[~LOST])


@pytest.mark.parametrize("draws", [1, 3])
def test_images_that_lead_nowhere_are_noted(network, draws):
    lost = torch.zeros(4, dtype=torch.bool)
    predict = Watched(broken(network) if draws == 1 else Drawn(network), lost)
    if draws == 1:
        minimal.deepfool(images(), LABELS, predict)  # of lost images no gradient is asked
        assert not lost.any()
        predict.take(torch.tensor([1, 2]))(images()[1:3].requires_grad_())
        assert lost.tolist() == [False, False, True, False]
    result = gradient.bim(images(), LABELS, False, predict, epsilon=0.1, steps=1, alpha=0.1)
    assert torch.equal(lost, LOST)
    assert (result[LOST] != 0).any() == (draws == 3)
