"""The expectation over a random network's draws, and what an attack notes of its images."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from advdenoise.attacks._expectation import expectation
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._predict import fooled_share
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise

LABELS = torch.arange(5) % 3


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture(scope="module")
def weights():
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(1)).double()


def loss(outputs):
    return functional.cross_entropy(outputs, LABELS, reduction="none")


def fooled(outputs):
    return fooled_share(outputs, LABELS, targeted=False)


def purify(inputs, noise):
    return inputs + 0.3 * noise.normal(inputs)


def test_a_network_without_draws_is_evaluated_once(images, weights):
    calls = []

    def network(inputs):
        calls.append(len(inputs))
        return inputs.flatten(1).square() @ weights

    result = expectation(images, network, loss, fooled)
    assert calls == [5]
    leaf = images.clone().requires_grad_()
    losses = loss(leaf.flatten(1).square() @ weights)
    assert torch.equal(result.loss, losses.detach()) and result.tracked is result.loss
    assert torch.equal(result.gradient, torch.autograd.grad(losses.sum(), leaf)[0])
    wrong = (images.flatten(1).square() @ weights).argmax(1) != LABELS
    assert torch.equal(result.fooled, wrong.double()) and 0 < wrong.sum() < 5
    assert expectation(images, network, loss, fooled, gradient=False).gradient is None


def test_means_over_draws_are_those_of_the_draws(images, weights):
    def noises():
        return [Noise(0, range(5), "p", draw=draw) for draw in range(7)]

    def network(inputs):
        return inputs.flatten(1).square() @ weights

    purified = purified_classifier(purify, network, "full", None, *noises())
    result = expectation(images, purified, loss, fooled, tracked=lambda x: x[:, 0])
    losses, shares, firsts, slopes = [], [], [], []
    for noise in noises():
        leaf = images.clone().requires_grad_()
        outputs = network(purify(leaf, noise))
        losses.append(loss(outputs).detach())
        shares.append((outputs.argmax(1) != LABELS).double())
        firsts.append(outputs[:, 0].detach())
        slopes.append(torch.autograd.grad(loss(outputs).sum(), leaf)[0])
    for value, parts in zip(result[:3], (losses, firsts, shares), strict=True):
        assert torch.allclose(value, torch.stack(parts).mean(0), atol=1e-12)
    assert torch.allclose(result.gradient, sum(slopes), atol=1e-12)
    assert ((result.fooled > 0) & (result.fooled < 1)).any()


def test_draws_that_are_not_finite_are_left_out_of_losses_and_gradients(images, weights):
    """One draw of image 0 and all draws of image 1 give NaN, which predicts no class."""

    class Draws:
        def __init__(self, lost):
            self.lost = torch.tensor(lost)

        def __call__(self, inputs):
            outputs = inputs.flatten(1) @ weights
            return outputs * torch.where(self.lost, torch.nan, 1.0)[:, None]

    class Network:
        per_draw = (
            Draws([True, True, False, False, False]),
            Draws([False, True, False, False, False]),
        )

    result = expectation(images, Network(), loss, fooled)
    plain = expectation(images, lambda x: x.flatten(1) @ weights, loss, fooled)
    assert torch.equal(result.gradient[0], plain.gradient[0])
    assert torch.allclose(result.gradient[2:], 2 * plain.gradient[2:])
    assert torch.equal(result.loss[0], plain.loss[0]) and result.loss[1].isnan()
    assert result.fooled[0] == (1 + plain.fooled[0]) / 2 and result.fooled[1] == 1


def test_one_graph_exists_at_a_time(images, weights):
    """A draw starts only when the graph of the one before it is gone."""
    alive = []

    class Marker(torch.autograd.Function):
        @staticmethod
        def forward(context, inputs):
            alive.append(1)
            return inputs.clone()

        @staticmethod
        def backward(context, gradient):
            alive.pop()
            return gradient

    def draw(inputs):
        assert not alive
        return Marker.apply(inputs).flatten(1) @ weights

    class Network:
        per_draw = (draw,) * 3

    assert expectation(images, Network(), loss, fooled).gradient.any()


def test_the_share_of_labelled_pixels_that_are_fooled():
    outputs = torch.tensor([[[[1.0, 0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0, 1.0]]]])  # classes 0 1 0 1
    masks = torch.tensor([[[0, 0, 1, 255]]])
    assert fooled_share(outputs, masks, targeted=False).tolist() == pytest.approx([2 / 3])
    assert fooled_share(outputs, masks, targeted=True).tolist() == pytest.approx([1 / 3])
    assert fooled_share(outputs, torch.full_like(masks, 255), targeted=False).tolist() == [0]
    outputs[0, 0, 0, 0] = torch.nan
    assert fooled_share(outputs, masks, targeted=False).tolist() == [1]


def record_all(facts, losses, shares, steps):
    for step, (values, share) in enumerate(zip(losses, shares, strict=True)):
        final = step == len(losses) - 1
        facts.record(step, steps, torch.tensor(values), torch.tensor(share), final)


def test_facts_of_a_run():
    facts = Facts(3)
    unknown = facts.arrays()
    assert unknown["fooled_at"].tolist() == [-1] * 3 and not unknown["fooled_last"].any()
    assert all(np.isnan(unknown[f"loss_{name}"]).all() for name in ("start", "best", "recent"))
    losses = [[0.5, 1.0, 2.0], [0.7, 0.9, np.nan], [0.6, 0.8, 5.0], [0.9, 0.7, 4.0]]
    shares = [[0.0, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0], [0.6, 0.0, 0.0]]
    record_all(facts, losses, shares, 3)
    arrays = facts.arrays()
    assert arrays["fooled_at"].tolist() == [1, -1, 0] and arrays["fooled_at"].dtype == np.int16
    assert arrays["fooled_last"].tolist() == [True, False, False]
    for name, expected in {
        "loss_start": [0.5, 1.0, 2.0],
        "loss_best": [0.9, 1.0, 5.0],
        "loss_recent": [0.7, 1.0, 5.0],  # after 2 of 3 steps
    }.items():
        assert arrays[name].dtype == np.float32 and np.allclose(arrays[name], expected)


def test_facts_of_some_rows_and_of_different_numbers_of_steps():
    facts = Facts(4)
    view = facts.take(torch.tensor([3, 1, 0])).take(torch.tensor([1, 0]))  # images 1 and 3
    steps = torch.tensor([2, 10]).view(2, 1, 1, 1)
    record_all(
        view, [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], steps
    )
    arrays = facts.arrays()
    assert arrays["fooled_at"].tolist() == [-1, 1, -1, 2]
    assert arrays["fooled_last"].tolist() == [False, False, False, True]
    assert arrays["loss_recent"][[1, 3]].tolist() == [2, 3]  # after 1 of 2, and 2 of 10 steps
    assert np.isnan(arrays["loss_best"][[0, 2]]).all()
