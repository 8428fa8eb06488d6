"""The attack that weighs a random network's draws: limits in which it is another attack."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import gradient
from advdenoise.attacks._ascent import margin_expectation
from advdenoise.attacks.stochastic import _weighted, em_pgd
from advdenoise.errors import BadInput
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise
from advdenoise.stages.gradients import GradientMonitor, Passes

N, EPSILON = 8, 0.1


@pytest.fixture(scope="module")
def networks():
    """Four networks, the draws of a random one."""
    torch.manual_seed(0)
    layers = [
        [nn.Conv2d(1, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5)] for _ in range(4)
    ]
    return [nn.Sequential(*some).double().eval().requires_grad_(False) for some in layers]


@pytest.fixture(scope="module")
def images():
    return torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def labels(networks, images):
    return networks[0](images).argmax(1)


class Draws:
    """A random network whose draws are these networks."""

    def __init__(self, *networks):
        self.per_draw = networks

    def take(self, rows):
        return self


def run(images, labels, network, targeted=False, ids=range(N), **changes):
    settings = {"epsilon": EPSILON, "steps": 5, "alpha_per_epsilon": 0.4} | changes
    return em_pgd(images, labels, targeted, network, Noise(0, ids, "test"), **settings)


def pgd(images, labels, network, targeted=False, **changes):
    settings = {"epsilon": EPSILON, "steps": 5, "alpha_per_epsilon": 0.4, "kappa": 1e6} | changes
    noise = Noise(0, range(N), "test")
    return gradient.margin_pgd(images, labels, targeted, network, noise, **settings)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("returns", ["last", "best"])
def test_with_one_draw_and_no_decay_it_is_pgd(
    targeted, random_start, returns, networks, images, labels
):
    settings = {"targeted": targeted, "random_start": random_start, "returns": returns}
    expected = pgd(images, labels, networks[0], **settings)
    for network in (networks[0], Draws(networks[0])):
        assert torch.equal(run(images, labels, network, decay=0.0, **settings), expected)


def test_with_equal_draws_it_is_pgd(networks, images, labels):
    result = run(images, labels, Draws(*[networks[0]] * 3), decay=0.0)
    assert torch.allclose(result, pgd(images, labels, networks[0]), atol=1e-12)


def test_with_equal_weights_it_is_the_expectation_over_transformation(networks, images, labels):
    result = run(images, labels, Draws(*networks), decay=0.0, sharpness=0.0)
    assert torch.allclose(result, pgd(images, labels, Draws(*networks)), atol=1e-12)
    other = run(images, labels, Draws(*networks), decay=0.0, sharpness=50.0)
    assert (other - result).abs().max() > 0.01


def by_definition(losses, gradients, epsilon, sharpness, rounds):
    """For one image: lists of numbers and vectors."""
    draws = range(len(losses))
    sums = [
        sum(
            functional.elu(losses[j] + epsilon * (gradients[a].sign() * gradients[j]).sum())
            for j in draws
        )
        for a in draws
    ]
    result = gradients[max(draws, key=lambda a: sums[a])]
    for _ in range(rounds):
        weights = [
            torch.sigmoid(sharpness * (losses[j] + epsilon * (result.sign() * gradients[j]).sum()))
            for j in draws
        ]
        result = sum(w * g for w, g in zip(weights, gradients, strict=True)) / sum(weights)
    return result


@pytest.mark.parametrize("rounds", [1, 5])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 5.0])
def test_the_weighted_mean_is_as_defined(rounds, sharpness):
    generator = torch.Generator().manual_seed(3)
    losses = torch.randn(6, N, generator=generator).double()
    gradients = torch.randn(6, N, 1, 3, 4, generator=generator).double()
    radius = torch.linspace(0.01, 0.3, N).double()
    result, _ = _weighted(losses, gradients, radius, sharpness, rounds)
    for row in range(N):
        expected = by_definition(
            [*losses[:, row]], [*gradients[:, row]], radius[row], sharpness, rounds
        )
        assert torch.allclose(result[row], expected, rtol=1e-10, atol=1e-12)


def test_opposite_draws_do_not_cancel():
    """Of two opposite gradients the mean is 0; the one that nearly fools its draw wins."""
    direction = torch.tensor([1.0, -2.0, 0.5]).double().view(1, 1, 1, 1, 3)
    gradients = torch.cat([direction, -direction])
    losses = torch.tensor([[-0.3], [-3.0]]).double()
    assert not _weighted(losses, gradients, torch.ones(1), 0.0, 1)[0].any()
    result, leader = _weighted(losses, gradients, torch.ones(1), 5.0, 1)
    assert leader.tolist() == [0]
    assert torch.allclose(result, direction[0], rtol=1e-6)


def test_draws_that_resist_by_far_leave_finite_weights():
    gradients = torch.randn(3, N, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 1e-3
    losses = torch.full((3, N), -1e4)
    result, _ = _weighted(losses, gradients, torch.tensor([0.1]), 5.0, 2)
    assert result.isfinite().all() and result.flatten(1).any(1).all()


def test_draws_that_are_not_finite_are_left_out(networks, images, labels):
    def broken(inputs):
        return networks[1](inputs) * math.nan

    expected = run(images, labels, Draws(networks[0], networks[2]))
    result = run(images, labels, Draws(networks[0], broken, networks[2]))
    assert torch.allclose(result, expected, atol=1e-12)
    start = run(images, labels, Draws(broken, broken), steps=1)
    assert torch.equal(run(images, labels, Draws(broken, broken)), start)


def test_it_fools_more_draws_than_the_expectation_where_draws_oppose(images):
    """Half of the draws fall to a bright and half to a dark first pixel: no mean direction.

    The mean gradient is 0 in all steps, and 0 of the draws are fooled; here half of them are.
    """

    def draw(sign):
        return lambda inputs: torch.stack(
            [0 * inputs[:, 0, 0, 0] + 0.04, sign * (inputs[:, 0, 0, 0] - 0.5)], 1
        )

    images, labels = torch.full((N, 1, 2, 2), 0.5).double(), torch.zeros(N, dtype=torch.int64)
    draws = Draws(draw(1.0), draw(-1.0))
    settings = {"random_start": False, "sharpness": 50.0}
    result = images + run(images, labels, draws, **settings)
    shares = [(network(result).argmax(1) != labels).double().mean() for network in draws.per_draw]
    assert sum(shares) / 2 == 0.5
    assert not pgd(images, labels, draws, random_start=False).any()


# ---------------------------------------------------------------- grafting


def purified(network, purify, through, draws=3, ids=range(N)):
    noises = [Noise(0, ids, "purifier", draw=draw) for draw in range(draws)]
    return purified_classifier(purify, network, through, None, *noises)


def smoothed(images, noise):
    """A purifier that draws: it shifts pixels and lets edges through at random."""
    share = noise.uniform(images).to(images.dtype)
    return (images * share + images.flip(3) * (1 - share)).clamp(0, 1)


def test_grafting_multiplies_by_the_jacobian_of_the_leading_draw(networks, images, labels):
    """One step with one draw is that with the purifier's own gradient, of other draws others."""
    settings = {"steps": 4, "random_start": False}
    full, grafted, identity = (
        run(images, labels, purified(networks[0], smoothed, through, 1), graft=graft, **settings)
        for through, graft in (("full", False), ("identity", True), ("identity", False))
    )
    assert torch.allclose(grafted, full, atol=1e-12)
    assert (identity - full).abs().max() > 0.01


@pytest.mark.parametrize("purify", [lambda x, _: x, lambda x, noise: x + 0.0 * x])
def test_grafting_changes_nothing_where_the_jacobian_is_the_identity(
    purify, networks, images, labels
):
    network = purified(networks[0], purify, "identity")
    assert torch.equal(run(images, labels, network, graft=True), run(images, labels, network))
    network = Draws(*networks)
    assert torch.equal(run(images, labels, network, graft=True), run(images, labels, network))


def test_grafting_leaves_the_draws_and_other_images_alone(networks, images, labels):
    whole = run(images, labels, purified(networks[0], smoothed, "identity"), graft=True)
    rows = torch.tensor([5, 2])
    ids = rows.tolist()
    network = purified(networks[0], smoothed, "identity", ids=ids)
    alone = run(images[rows], labels[rows], network, ids=ids, graft=True)
    assert torch.allclose(alone, whole[rows], atol=1e-12)


def test_grafting_takes_one_pass_of_the_purifier_with_a_gradient(networks, images, labels):
    counts = {True: 0, False: 0}

    def purify(inputs, noise):
        counts[torch.is_grad_enabled()] += len(inputs)
        return smoothed(inputs, noise)

    run(images, labels, purified(networks[0], purify, "identity", 3), graft=True, steps=2)
    assert counts == {True: 2 * N, False: 2 * 3 * N}


def test_grafting_passes_the_monitor_of_a_job(networks, images, labels):
    def network():
        return purified(networks[0], smoothed, "identity")

    passes = Passes(N)
    result = run(images, labels, GradientMonitor(network(), passes), graft=True)
    assert torch.equal(result, run(images, labels, network(), graft=True))
    assert passes.backward.tolist() == [5 * 3] * N


def test_a_purifier_without_a_gradient_cannot_be_grafted(networks, images, labels):
    network = purified(networks[0], lambda inputs, _: inputs.detach(), "identity")
    with pytest.raises(BadInput, match=r"settings\.graft: the purifier gives no gradient"):
        run(images, labels, network, graft=True)


def test_images_do_not_influence_each_other(networks, images, labels):
    whole = run(images, labels, Draws(*networks))
    rows = torch.tensor([5, 2])
    alone = run(images[rows], labels[rows], Draws(*networks), ids=rows.tolist())
    assert torch.allclose(alone, whole[rows], atol=1e-12)


def test_the_gradient_of_the_first_step_is_not_changed_by_the_momentum(networks, images, labels):
    first = [
        run(images, labels, Draws(*networks), steps=1, decay=decay, random_start=False)
        for decay in (0.0, 0.5, 1.0)
    ]
    assert torch.equal(first[0], first[1]) and torch.equal(first[0], first[2])
    gradient_fn = margin_expectation(images, labels, False, networks[0], 1e6).gradient
    single = run(images, labels, networks[0], steps=1, random_start=False)
    expected = 0.04 * gradient_fn.sign()
    assert torch.allclose(single, expected.clamp(-images, 1 - images), atol=1e-12)


def test_refuses(networks, images, labels):
    with pytest.raises(BadInput, match=r"stochastic\.em_pgd needs one label per image"):
        run(images, torch.zeros(N, 8, 8, dtype=torch.int64), networks[0])
    with pytest.raises(BadInput, match="either alpha"):
        run(images, labels, networks[0], alpha=0.1)
