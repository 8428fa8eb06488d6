"""Attacks on networks whose outputs are not finite for some images."""

import pytest
import torch
from torch import nn

from advdenoise.attacks import blackbox, gradient, minimal, stopped
from advdenoise.attacks._ascent import ascend, cross_entropy_gradient
from advdenoise.attacks._expectation import Expectation
from advdenoise.attacks._predict import margin
from advdenoise.inference.purified import PurifiedClassifier
from advdenoise.noise import Noise
from advdenoise.stages.gradients import GradientMonitor, Passes

NAN, INF = float("nan"), float("inf")
LABELS = torch.tensor([0, 1, 2, 0])
BROKEN = torch.tensor([True, False, True, False])  # the bright images


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)]
    network = nn.Sequential(*layers).eval().requires_grad_(False)
    with torch.no_grad():
        network[3].weight.mul_(4)
        logits = 3.0 * nn.functional.one_hot(LABELS, 3).float()
        network[3].bias.copy_((logits - network(images()))[1])
    return network


def images():
    """Images of which those in `BROKEN` are bright: above 0.5 in the first pixel."""
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.1
    images[BROKEN, 0, 0, 0] = 0.9
    return images


def broken(network):
    """The network with outputs that are not finite for bright images."""

    def predict(inputs):
        bright = inputs[:, :, :1, :1] > 0.5
        return network(inputs * torch.where(bright, INF, 1.0) - torch.where(bright, INF, 0.0))

    return predict


def test_margins_of_outputs_that_are_not_finite():
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
            images(), labels, targeted, predict, predict, lambda inputs: None, steps=5
        ),
        "i_fgsm": lambda: stopped.i_fgsm(
            images(), labels, targeted, predict, predict, lambda inputs: None, steps=3, alpha=0.05
        ),
        "pgd": lambda: gradient.pgd(
            images(), labels, targeted, predict, noise, epsilon=0.1, steps=2, alpha=0.05
        ),
    }


@pytest.mark.parametrize("name", ["deepfool", "carlini_wagner", "square", "line_search", "i_fgsm"])
def test_images_without_finite_outputs_count_as_misclassified(network, name):
    """Those of class 0, which is argmax's result for NaN, as well as those of class 2."""
    result = runs(network)[name]()
    assert result.isfinite().all() and (result[BROKEN] == 0).all()
    right = network(images()).argmax(1) == LABELS
    assert right[1] and result[1].abs().max() > 0


@pytest.mark.parametrize("name", ["carlini_wagner", "square", "line_search", "i_fgsm", "pgd"])
def test_targeted_attacks_stay_finite(network, name):
    result = runs(network, targeted=True)[name]()
    assert result.isfinite().all()


def test_a_gradient_of_huge_numbers_counts_as_finite():
    huge = torch.full((2, 1, 4, 4), 3e38)
    huge[1, 0, 0, 0] = NAN
    unknown = torch.zeros(2)
    result = ascend(
        images()[:2],
        lambda inputs: Expectation(unknown, unknown, unknown, huge.clone()),
        None,
        0.1,
        0.05,
        1,
    )
    assert (result[0] > 0).all() and (result[1] == 0).all()


class ThreeDraws:
    """A network behind a purifier with three draws, the second of which is broken."""

    def __init__(self, network):
        self.per_draw = [network, broken(network), network]


def test_a_draw_without_a_finite_gradient_is_left_out(network):
    result = cross_entropy_gradient(images(), LABELS, ThreeDraws(network))
    single = cross_entropy_gradient(images(), LABELS, network)
    assert torch.allclose(result[BROKEN], 2 * single[BROKEN]) and torch.allclose(
        result[~BROKEN], 3 * single[~BROKEN]
    )
    partial = cross_entropy_gradient(images(), LABELS, broken(network))
    assert not partial[BROKEN].isfinite().any() and torch.equal(partial[~BROKEN], single[~BROKEN])


def test_the_mean_over_draws_is_that_of_finite_outputs(network):
    noises = [Noise(0, range(4), "x", draw=draw) for draw in range(3)]
    networks = dict(zip(noises, ThreeDraws(network).per_draw, strict=True))
    result = PurifiedClassifier(lambda inputs, noise: networks[noise](inputs), noises)(images())
    assert torch.allclose(result, network(images()))
    all_broken = PurifiedClassifier(lambda inputs, noise: broken(network)(inputs), noises)(images())
    assert all_broken[BROKEN].isnan().all()
    assert torch.allclose(all_broken[~BROKEN], network(images())[~BROKEN])


@pytest.mark.parametrize("draws", [1, 3])
def test_images_without_finite_gradients_are_recorded(network, draws):
    passes = Passes(4)
    lost = passes.lost
    predict = GradientMonitor(broken(network) if draws == 1 else ThreeDraws(network), passes)
    if draws == 1:
        minimal.deepfool(images(), LABELS, predict)  # which takes no gradient of the broken images
        assert not lost.any()
        predict.take(torch.tensor([1, 2]))(images()[1:3].requires_grad_())
        assert lost.tolist() == [False, False, True, False]
    result = gradient.bim(images(), LABELS, False, predict, epsilon=0.1, steps=1, alpha=0.1)
    assert torch.equal(lost, BROKEN)
    assert (result[BROKEN] != 0).any() == (draws == 3)
