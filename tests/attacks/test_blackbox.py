"""The Square attack: budget, search, queries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.square import SquareAttack
from torch import nn

from advdenoise.attacks import blackbox, gradient
from advdenoise.attacks._ball import limits
from advdenoise.attacks._predict import margin
from advdenoise.attacks.blackbox import HALVINGS
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

N, SHAPE = 8, (3, 6, 5)


class Recorder(nn.Module):
    """A network that records its batches."""

    def __init__(self, network):
        super().__init__()
        self.network, self.batches = network, []

    def forward(self, images):
        self.batches.append(images.clone())
        return self.network(images)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)]
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    images = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, 0] = 0
    images[:, :, 1] = 1
    return images


@pytest.fixture(scope="module")
def labels(network, images):
    """The predictions, so that no image is misclassified at the start."""
    return network(images).argmax(1)


def run(images, labels, network, ids=range(N), targeted=False, **changes):
    values = {"epsilon": 0.05, "queries": 60} | changes
    noise = Noise(0, ids, "test")
    return blackbox.square(images, labels, targeted, network, noise, **values)


def constant(images):
    """A victim that always predicts class 0, with a margin of 1."""
    return torch.tensor([1.0, 0.0, 0.0, 0.0]).double().expand(len(images), 4)


def test_stays_on_the_edge_of_ball_and_unit_interval(images, labels, network):
    recorder = Recorder(network)
    epsilon = torch.linspace(0.01, 0.2, N).double().view(-1, 1, 1, 1)
    perturbation = run(images, torch.zeros(N, dtype=torch.int64), constant, epsilon=epsilon)
    assert (perturbation.abs() <= epsilon + 1e-12).all()
    inputs = images + perturbation
    assert inputs.min() >= 0 and inputs.max() <= 1
    lower, upper = limits(images, epsilon)
    assert ((perturbation == lower) | (perturbation == upper)).all()
    run(images, labels, recorder)
    for batch in recorder.batches[1:]:
        assert batch.min() >= 0 and batch.max() <= 1


def test_the_margin_never_increases_and_queries_end_with_success(images, labels, network):
    """Each image is attacked alone, to follow its path."""
    lengths = []
    for row in range(N):
        recorder = Recorder(network)
        image, label = images[row : row + 1], labels[row : row + 1]
        perturbation = run(image, label, recorder, [row], epsilon=0.1)
        batches = torch.cat(recorder.batches)
        margins = margin(network(batches), label.expand(len(batches)), False)
        best = torch.cummin(margins[1:], 0).values
        final = margin(network(image + perturbation), label, False)
        assert final.item() == pytest.approx(best[-1].item())
        assert (margins[:-1] >= 0).all() and len(batches) <= 60
        if final >= 0:
            assert len(batches) == 60
        lengths.append(len(batches))
    assert min(lengths) < 60


def test_queries_is_the_maximum_per_image(images):
    for queries in (2, 3, 17):
        recorder = Recorder(constant)
        run(images, torch.zeros(N, dtype=torch.int64), recorder, queries=queries)
        assert [len(batch) for batch in recorder.batches] == [N] * queries


def test_misclassified_images_leave_the_batch(images, labels, network):
    recorder = Recorder(network)
    run(images, labels, recorder, epsilon=0.1)
    sizes = [len(batch) for batch in recorder.batches]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == N and sizes[-1] < N


def test_a_misclassified_image_is_left_unchanged(images, labels, network):
    wrong = (labels + 1) % 4
    recorder = Recorder(network)
    assert not run(images, wrong, recorder).any() and len(recorder.batches) == 1


def test_it_starts_with_stripes(images):
    recorder = Recorder(constant)
    run(images / 2 + 0.25, torch.zeros(N, dtype=torch.int64), recorder, queries=2)
    clean, stripes = recorder.batches
    change = stripes - clean
    assert torch.allclose(change, change[:, :, :1].expand_as(change))
    assert torch.allclose(change.abs(), torch.full_like(change, 0.05))
    assert 0.3 < (change[:, :, 0] > 0).double().mean() < 0.7


def test_each_further_query_changes_one_square(images):
    """Where the margin never decreases, every candidate is the stripes with one square."""
    recorder = Recorder(constant)
    inputs = images / 2 + 0.25
    run(inputs, torch.zeros(N, dtype=torch.int64), recorder, queries=40, share=0.5)
    stripes = recorder.batches[1]
    positions = set()
    for query, batch in enumerate(recorder.batches[2:], start=1):
        side = blackbox._side(0.5, 10_000 * query / 39, 6, 5)
        for changed in (batch != stripes).any(1):
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            assert len(rows) > 0, "a query was wasted"
            for cells in (rows, columns):
                assert cells.max() - cells.min() < side
            positions.add((side, rows.min().item(), columns.min().item()))
    assert len(positions) > 10


def test_sides_shrink_as_in_the_paper():
    """p is 0.8 up to query 10 of 10,000, then halved as in the paper."""
    expected = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 200: 4, 501: 16, 1001: 32, 2001: 64, 4001: 128}
    expected |= {6001: 256, 8001: 512, 9999: 512}
    for query, halved in expected.items():
        side = max(round(math.sqrt(0.8 / halved * 32 * 32)), 1)
        assert blackbox._side(0.8, query, 32, 32) == side
    sides = [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert [
        blackbox._side(0.8, query, 32, 32) for query in (0, *(q + 1 for q in HALVINGS))
    ] == sides
    assert blackbox._side(1.0, 0.0, 4, 9) == 4


def test_the_schedule_without_rescaling_is_that_of_autoattack():
    theirs = SquareAttack(constant, n_queries=5000, resc_schedule=False)
    for square in range(5000):
        side = max(round(math.sqrt(theirs.p_selection(square) * 32 * 32)), 1)
        assert blackbox._side(0.8, square, 32, 32) == side


@pytest.mark.parametrize("rescale", [True, False])
def test_halvings_are_at_numbers_of_squares_or_at_shares_of_the_queries(rescale, monkeypatch):
    sides = []

    def spy(*arguments):
        sides.append(side(*arguments))
        return sides[-1]

    side = blackbox._side
    monkeypatch.setattr(blackbox, "_side", spy)
    images = torch.full((1, 1, 20, 20), 0.5).double()
    run(images, torch.zeros(1, dtype=torch.int64), constant, [0], queries=62, rescale=rescale)
    by_number = [18] * 11 + [13] * 40 + [9] * 9
    by_share = [9] + [6] * 2 + [4] * 3 + [3] * 6 + [2] * 24 + [1] * 24
    assert sides == (by_share if rescale else by_number)


def test_squares_reach_every_position():
    firsts = {
        blackbox._window(torch.tensor([random]), 3, 5)[0].nonzero().flatten().tolist()[0]
        for random in (0.0, 0.32, 0.34, 0.65, 0.67, 0.999999)
    }
    assert firsts == {0, 1, 2}


def test_neither_batch_nor_order_matters(images, labels, network):
    together = run(images, labels, network, epsilon=0.08)
    order = torch.tensor([5, 0, 3])
    perturbation = run(images[order], labels[order], network, order.tolist(), epsilon=0.08)
    assert torch.allclose(perturbation, together[order], atol=1e-12)


def test_a_target_is_reached(images, network):
    targets = (network(images).argmax(1) + 1) % 4
    perturbation = run(images, targets, network, targeted=True, epsilon=0.4, queries=400)
    reached = network(images + perturbation).argmax(1) == targets
    before = margin(network(images), targets, True)
    assert reached.double().mean() >= 0.5
    assert (margin(network(images + perturbation), targets, True) < before).all()


def test_it_succeeds_about_as_often_as_bim(images, labels, network):
    """At most one image fewer than for 40 steps of BIM."""
    step = {"alpha": 0.01, "steps": 40, "epsilon": 0.06}
    bim = images + gradient.bim(images, labels, False, network, **step)
    perturbation = images + run(images, labels, network, epsilon=0.06, queries=400)
    successes = [(network(inputs).argmax(1) != labels).sum() for inputs in (bim, perturbation)]
    assert 2 <= successes[0] - 1 <= successes[1]


def half_robust():
    """A classifier with 200 images, all correct, of which the attack below fools a part."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(576, 4)]
    network = nn.Sequential(*layers).eval().requires_grad_(False)
    images = torch.rand(200, 1, 24, 24, generator=torch.Generator().manual_seed(4))
    return network, images, network(images).argmax(1)


@pytest.mark.parametrize(("rescale", "queries"), [(True, 150), (False, 600)])
def test_it_fools_as_many_images_as_pyautoattack(rescale, queries):
    """Within 5 points of the mean of three seeds: theirs has one square for the whole batch."""
    network, images, labels = half_robust()

    def share(adversarial):
        return (network(adversarial).argmax(1) != labels).float().mean().item()

    theirs = []
    for seed in range(3):
        size = {"eps": 0.02, "n_queries": queries - 2, "n_restarts": 1, "device": "cpu"}
        attack = SquareAttack(network, seed=seed, resc_schedule=rescale, **size)
        theirs.append(share(attack.perturb(images, labels)))
    noise = Noise(0, range(200), "test")
    settings = {"epsilon": 0.02, "queries": queries, "rescale": rescale}
    result = images + blackbox.square(images, labels, False, network, noise, **settings)
    assert abs(share(result) - sum(theirs) / 3) <= 0.05
    assert 0.3 < share(result) < 0.6


class Draws:
    """A random network whose draws are these networks."""

    def __init__(self, *networks):
        self.per_draw = networks

    def take(self, rows):
        return self


def test_a_query_of_a_random_network_is_the_mean_of_the_margins_of_its_draws(
    images, labels, network
):
    recorders = [Recorder(network), Recorder(lambda inputs: network(inputs.flip(3)))]
    run(images, labels, Draws(*recorders), queries=30)
    first, second = (recorder.batches for recorder in recorders)
    assert all(map(torch.equal, first, second))
    expected = sum(margin(recorder.network(images), labels, False) for recorder in recorders) / 2
    assert torch.allclose(blackbox._mean_margin(images, labels, False, Draws(*recorders)), expected)
    assert len(first[0]) == N and len(first[1]) == (expected >= 0).sum()


def test_draws_without_finite_outputs_are_left_out(images, labels, network):
    def broken(inputs):
        return network(inputs) * math.nan

    expected = margin(network(images), labels, False)
    result = blackbox._mean_margin(images, labels, False, Draws(network, broken))
    assert torch.equal(result, expected)
    for targeted, margins in ((False, -math.inf), (True, math.inf)):
        for victim in (broken, Draws(broken, broken)):
            result = blackbox._mean_margin(images, labels, targeted, victim)
            assert (result == margins).all()


def test_without_a_stop_the_margin_goes_on_falling(images, labels, network):
    recorder = Recorder(network)
    stopped = run(images, labels, network, epsilon=0.1)
    result = run(images, labels, recorder, epsilon=0.1, stop=False)
    assert [len(batch) for batch in recorder.batches] == [N] * 60
    margins = [margin(network(images + p), labels, False) for p in (result, stopped)]
    assert (margins[0] <= margins[1]).all()
    fooled = margins[1] < 0
    assert fooled.any() and (margins[0] < margins[1])[fooled].all()
    assert torch.equal(result[~fooled], stopped[~fooled])
    wrong = (labels + 1) % 4
    assert not run(images, wrong, network, stop=False).any()


def test_no_gradient_is_taken(images, labels, network):
    def victim(inputs):
        assert not torch.is_grad_enabled()
        return network(inputs)

    run(images, labels, victim)


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [({"queries": 1}, "queries"), ({"share": 0.0}, "share"), ({"share": 2}, "share")],
)
def test_refuses(images, labels, network, wrong, setting):
    with pytest.raises(BadInput, match=rf"settings\.{setting}"):
        run(images, labels, network, **wrong)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    epsilon=st.floats(0, 1),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    share=st.floats(0.001, 1),
)
def test_always_finite_and_inside_ball_and_unit_interval(seed, epsilon, size, share):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 1, *size, generator=generator).round(decimals=1)
    weights = torch.randn(size[0] * size[1], 3, generator=generator)
    perturbation = blackbox.square(
        images,
        torch.arange(3),
        False,
        lambda inputs: inputs.flatten(1) @ weights,
        Noise(seed, range(3), "test"),
        epsilon=epsilon,
        queries=12,
        share=share,
    )
    assert perturbation.isfinite().all() and (perturbation.abs() <= epsilon).all()
    assert (images + perturbation).min() >= 0 and (images + perturbation).max() <= 1
