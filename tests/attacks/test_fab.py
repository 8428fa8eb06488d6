"""FAB against pyautoattack, closed forms of linear classifiers, and its contract."""

import math

import numpy as np
import pytest
import torch
from pyautoattack.fab_pt import FABAttack_PT
from torch import nn
from torch.nn import functional

from advdenoise.attacks._facts import LOSSES, Facts
from advdenoise.attacks.minimal import fab_t
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

N, CLASSES = 24, 6


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(96, CLASSES)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    images = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return (images * 1.4 - 0.2).clamp(0, 1)


@pytest.fixture(scope="module")
def labels(network, images):
    """The predictions, but for every sixth image."""
    labels = network(images).argmax(1)
    labels[::6] = (labels[::6] + 1) % CLASSES
    return labels


def correct():
    return torch.arange(N) % 6 != 0


def run(images, labels, network, ids=range(N), **changes):
    return fab_t(images, labels, network, Noise(0, ids, "test"), **{"steps": 10} | changes)


def size(perturbation):
    return perturbation.flatten(1).abs().amax(1)


def is_misclassified(network, images, labels, perturbation):
    return network(images + perturbation).argmax(1) != labels


# ---------------------------------------------------------------- pyautoattack


def of_pyautoattack(network, epsilon=0.3, steps=10, targets=CLASSES - 1, **changes):
    settings = {"n_iter": steps, "eps": epsilon, "n_target_classes": targets, "device": "cpu"}
    return FABAttack_PT(network, **settings, targeted=True, **changes)


@pytest.mark.parametrize("target", [1, 2, 5])
def test_a_run_follows_that_of_pyautoattack(target, network, images, labels):
    """Only the last target counts: for this, the outputs of the others are lowered."""
    theirs = of_pyautoattack(network, steps=5)
    theirs.target_class = target + 1
    expected = theirs.attack_single_run(images, labels, is_targeted=True) - images
    order = network(images).argsort(1, descending=True)
    skipped = order[:, 1:target]

    def reordered(inputs):
        """On the clean images the target has the second largest output."""
        outputs = network(inputs)
        if inputs.shape == images.shape and torch.equal(inputs, images) and target > 1:
            outputs = outputs.scatter(1, skipped, -100.0)
        return outputs

    result = run(images, labels, reordered, targets=1, steps=5)
    rows = correct()
    assert torch.allclose(result[rows], expected[rows], rtol=0, atol=5e-6)
    assert result[rows].flatten(1).any(1).float().mean() > 0.5


@pytest.mark.parametrize("changes", [{}, {"alpha_max": 0.3}, {"eta": 1.3}, {"beta": 0.5}])
def test_distances_are_those_of_pyautoattack(changes, network, images, labels):
    """100 steps drift apart by rounding, but end equally near."""
    theirs = of_pyautoattack(network, steps=100, **changes)
    theirs.target_class = 2
    expected = theirs.attack_single_run(images, labels, is_targeted=True) - images
    result = run(images, labels, network, targets=1, steps=100, **changes)
    rows = correct() & (size(expected) > 0)
    assert torch.equal(rows, correct() & (size(result) > 0)) and rows.sum() >= 15
    difference = size(result)[rows] - size(expected)[rows]
    assert difference.abs().max() < 2e-4 and difference.mean().abs() < 2e-5


def test_the_whole_attack_fools_the_images_that_pyautoattack_does(network, images, labels):
    for epsilon in (0.05, 0.1):
        expected = of_pyautoattack(network, epsilon, steps=30).perturb(images, labels)
        fooled = is_misclassified(network, images, labels, expected - images) & correct()
        result = run(images, labels, network, epsilon=epsilon, steps=30)
        assert torch.equal(is_misclassified(network, images, labels, result) & correct(), fooled)
        assert 3 <= fooled.sum() <= 19
        assert torch.allclose(size(result)[fooled], size(expected - images)[fooled], atol=1e-4)


# ---------------------------------------------------------------- linear classifiers


def linear(classes, seed=5):
    """A linear classifier in float64, images far from 0 and 1, labels, distances to boundaries."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(36, classes, generator=generator).double()
    images = torch.rand(60, 1, 6, 6, generator=generator).double() / 10 + 0.45

    def predict(inputs):
        return inputs.flatten(1) @ weights

    outputs = predict(images)
    labels = outputs.argmax(1)
    leads = outputs.gather(1, labels[:, None]) - outputs
    norms = (weights.T[labels][:, None] - weights.T[None]).abs().sum(2)
    distances = (leads / norms.clamp(min=1e-12)).scatter(1, labels[:, None], math.inf)
    return predict, images, labels, distances.min(1).values


def test_of_a_linear_classifier_it_ends_just_behind_the_boundary():
    """The recursion of eta, beta and alpha_max ends at 1.0052133 times the distance."""
    predict, images, labels, distance = linear(2)
    ratio = size(run(images, labels, predict, range(60), steps=100)) / distance
    assert torch.allclose(ratio, torch.full_like(ratio, 1.0052133), rtol=0, atol=2e-7)
    predict, images, labels, distance = linear(5)
    ratio = size(run(images, labels, predict, range(60), steps=100)) / distance
    assert ratio.min() > 1.00521 and ratio.max() < 1.0062


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_search_ends_between_that_and_the_boundary(rounds):
    predict, images, labels, distance = linear(5)
    without = size(run(images, labels, predict, range(60), steps=100))
    result = run(images, labels, predict, range(60), steps=100, search=rounds)
    assert (size(result) >= distance * (1 - 1e-9)).all() and (size(result) <= without).all()
    assert is_misclassified(predict, images, labels, result).all()
    if rounds == 3:
        assert (size(result) < without).double().mean() > 0.3


def test_the_search_brings_points_nearer(network, images, labels):
    without = run(images, labels, network, targets=2, steps=4)
    result = run(images, labels, network, targets=2, steps=4, search=3)
    reached = size(without) > 0
    assert is_misclassified(network, images, labels, result)[reached].all()
    assert (size(result) <= size(without)).all()
    assert (size(result) < 0.999 * size(without))[reached].float().mean() > 0.5


# ---------------------------------------------------------------- contract


def test_only_images_that_are_correct_are_attacked(network, images, labels):
    result = run(images, labels, network)
    assert torch.equal(
        size(result) > 0, correct() & is_misclassified(network, images, labels, result)
    )
    assert not result[~correct()].any() and (size(result) > 0).sum() > 15


def test_images_with_a_sufficient_perturbation_have_no_further_runs(network, images, labels):
    batches = []

    def predict(inputs):
        batches.append((len(inputs), inputs.requires_grad))
        return network(inputs)

    run(images, labels, predict, epsilon=0.1, steps=4, targets=3)
    assert batches[0] == (N, False)
    sizes = [count for count, _ in batches[1:]]
    assert [gradient for _, gradient in batches[1:]] == [True, False] * (len(sizes) // 2)
    runs = [sizes[i : i + 8] for i in range(0, len(sizes), 8)]
    assert len(runs) == 3 and all(len({*counts}) == 1 for counts in runs)
    counts = [counts[0] for counts in runs]
    assert counts[0] == correct().sum() and counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]
    batches.clear()
    run(images, labels, predict, steps=4, targets=3)
    assert {count for count, _ in batches[1:]} == {20} and len(batches) == 1 + 3 * 8


def test_targets_are_at_most_the_other_classes(images):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(64, 3, generator=generator)
    calls = []

    def predict(inputs):
        calls.append(len(inputs))
        return inputs.flatten(1) @ weights

    labels = predict(images).argmax(1)
    results = [run(images, labels, predict, targets=targets) for targets in (2, 9)]
    assert torch.equal(*results) and len(calls) == 1 + 2 * (1 + 2 * 20)


def test_a_further_target_is_never_worse(network, images, labels):
    few, many = (run(images, labels, network, targets=targets) for targets in (1, 4))
    reached = size(few) > 0
    assert (size(many) <= size(few))[reached].all()
    assert (size(many) < size(few))[reached].any()


def test_what_is_beyond_epsilon_becomes_0_or_is_clipped(network, images, labels):
    free = run(images, labels, network)
    epsilon = torch.linspace(0.02, 0.2, N).view(-1, 1, 1, 1)
    result = run(images, labels, network, epsilon=epsilon)
    reached = is_misclassified(network, images, labels, result)
    assert torch.equal(size(result) > 0, reached & correct()) and 3 < reached.sum() < 20
    assert (size(result) <= epsilon.flatten()).all()
    clipped = run(images, labels, network, epsilon=epsilon, clip=True)
    assert torch.equal(clipped[reached], result[reached])
    beyond = ~reached & (size(free) > 0)
    assert torch.allclose(size(clipped)[beyond], epsilon.flatten()[beyond]) and beyond.any()
    assert torch.equal(clipped[beyond], free[beyond].clamp(-epsilon[beyond], epsilon[beyond]))


def test_images_do_not_influence_each_other(network, images, labels):
    settings = {"restarts": 2, "targets": 2, "search": 2}
    epsilon = torch.linspace(0.02, 0.2, N).view(-1, 1, 1, 1)
    whole = run(images, labels, network, epsilon=epsilon, **settings)
    for rows in (torch.tensor([3, 1, 20, 8]), torch.tensor([1])):
        alone = run(
            images[rows], labels[rows], network, rows.tolist(), epsilon=epsilon[rows], **settings
        )
        assert torch.allclose(alone, whole[rows], rtol=0, atol=1e-5)


def test_restarts_begin_at_half_the_radius(network, images, labels):
    starts = []

    def predict(inputs):
        if inputs.requires_grad:
            starts.append(inputs.detach().clone())
        return network(inputs)

    result = run(images / 2 + 0.25, labels, predict, targets=1, steps=1, restarts=2, epsilon=0.01)
    first, second = starts
    assert torch.equal(first, (images / 2 + 0.25)[network(images / 2 + 0.25).argmax(1) == labels])
    assert torch.allclose(size(second - first[: len(second)]), torch.tensor(0.005), atol=1e-6)
    assert result.isfinite().all()


def test_a_restart_leaves_a_plateau(network, images):
    """Around the images outputs are constant: only a random start has a gradient."""

    def plateau(inputs):
        change = (inputs - images[: len(inputs)]).abs()
        leads = functional.relu(change - 0.04).flatten(1).mean(1) - 0.01
        return torch.stack([torch.zeros_like(leads), leads], 1)

    labels = torch.zeros(N, dtype=torch.int64)
    assert not run(images, labels, plateau, epsilon=0.3).any()
    result = run(images, labels, plateau, epsilon=0.3, restarts=2)
    assert is_misclassified(plateau, images, labels, result).all()


class Draws:
    """A random network whose draws are these networks."""

    def __init__(self, *networks):
        self.per_draw = networks

    def __call__(self, inputs):
        return sum(network(inputs) for network in self.per_draw) / len(self.per_draw)

    def take(self, rows):
        return self


def test_of_a_random_network_it_takes_the_mean(network, images, labels):
    alone = run(images, labels, network, targets=2)
    assert torch.allclose(run(images, labels, Draws(network, network), targets=2), alone, atol=1e-6)
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(3, 64, 2, generator=generator)
    draws = [lambda inputs, w=w: inputs.flatten(1) @ w for w in weights]
    inner = images / 10 + 0.45
    mean = Draws(*draws)(inner)
    labels = mean.argmax(1)
    result = run(inner, labels, Draws(*draws), steps=1)
    wrong = sum(is_misclassified(draw, inner, labels, result).int() for draw in draws) > 1
    reached = size(result) > 0
    assert torch.equal(reached, wrong & reached) and reached.sum() > 5
    expected = 1.05 * mean.diff(dim=1).abs()[:, 0] / weights.mean(0).diff(dim=1).abs().sum()
    assert torch.allclose(size(result)[reached], expected[reached], rtol=1e-4)


def test_scaled_outputs_make_no_difference(network, images, labels):
    result = run(images, labels, network)
    scaled = run(images, labels, lambda inputs: 1024 * network(inputs))
    assert torch.equal(scaled, result)


def test_images_without_a_finite_gradient_do_not_move(network, images, labels):
    broken = torch.arange(N) % 2 == 1

    def predict(inputs):
        outputs = network(inputs)
        if inputs.requires_grad:
            rest = broken[correct()].view(-1, *[1] * (inputs.ndim - 1))
            inputs.register_hook(lambda gradient: gradient.masked_fill(rest, math.nan))
        return outputs

    result = run(images, labels, predict)
    assert not result[broken].any()
    assert torch.equal(result[~broken], run(images, labels, network)[~broken])


def test_a_gradient_of_zero_moves_nothing(images, labels):
    def constant(inputs):
        return torch.eye(CLASSES)[labels[: len(inputs)]] + 0 * inputs.sum()

    result = run(images, labels, constant)
    assert not result.any()


def test_without_a_boundary_in_reach_the_perturbation_is_0():
    images, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.int64)

    def predict(inputs):
        first = inputs.flatten(1).sum(1)
        return torch.stack([first, 0.1 * first - 10], 1)

    assert not run(images, labels, predict, range(3), clip=True, epsilon=0.3).any()


def test_facts_are_the_first_success_inside_the_ball(network, images, labels):
    epsilon = 0.1
    facts = Facts(N)
    noise = Noise(0, range(N), "test")
    settings = {"epsilon": epsilon, "steps": 6, "targets": 3}
    result = fab_t(images, labels, network, noise, facts, **settings)
    arrays = facts.arrays()
    fooled = is_misclassified(network, images, labels, result).numpy()
    assert (arrays["fooled_last"] == fooled).all()
    assert ((arrays["fooled_at"] >= 0) == fooled).all()
    assert (arrays["fooled_at"][::6] == 0).all() and arrays["fooled_at"].max() > 1
    assert all(np.isnan(arrays[name]).all() for name in LOSSES)
    for row in np.flatnonzero(arrays["fooled_at"] > 0):
        steps = int(arrays["fooled_at"][row])
        if steps <= 6:
            shorter = settings | {"steps": steps, "targets": 1}
            assert run(images, labels, network, **shorter)[row].any()
            if steps > 1:
                shorter["steps"] -= 1
                assert not run(images, labels, network, **shorter)[row].any()


def test_masks_are_refused(network, images):
    masks = torch.zeros(N, 8, 8, dtype=torch.int64)
    with pytest.raises(BadInput, match=r"minimal\.fab_t needs one label per image"):
        run(images, masks, network)
