"""The Square attack: its budget, its search, its queries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advdenoise.attacks import blackbox, gradient
from advdenoise.attacks._ball import limits
from advdenoise.attacks._predict import margin
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

N, SHAPE = 8, (3, 6, 5)


class Asked(nn.Module):
    """Keeps every batch that it is asked about."""

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
    drawn = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    drawn[:, :, 0] = 0
    drawn[:, :, 1] = 1
    return drawn


@pytest.fixture(scope="module")
def labels(network, images):
    """What the network says, so that no image is fooled from the start."""
    return network(images).argmax(1)


def run(images, labels, network, ids=range(N), targeted=False, **changes):
    values = {"epsilon": 0.05, "queries": 60} | changes
    noise = Noise(0, ids, "test")
    return blackbox.square(images, labels, targeted, network, noise, **values)


def constant(images):
    """A victim that nothing fools: class 0 by 1, whatever it sees."""
    return torch.tensor([1.0, 0.0, 0.0, 0.0]).double().expand(len(images), 4)


def test_stays_in_the_ball_and_in_the_box_at_its_edge(images, labels, network):
    asked = Asked(network)
    epsilon = torch.linspace(0.01, 0.2, N).double().view(-1, 1, 1, 1)
    found = run(images, torch.zeros(N, dtype=torch.int64), constant, epsilon=epsilon)
    assert (found.abs() <= epsilon + 1e-12).all()
    seen = images + found
    assert seen.min() >= 0 and seen.max() <= 1
    lower, upper = limits(images, epsilon)
    assert ((found == lower) | (found == upper)).all()
    run(images, labels, asked)
    for batch in asked.batches[1:]:
        assert batch.min() >= 0 and batch.max() <= 1


def test_the_margin_never_rises_and_fooled_images_are_not_asked_again(images, labels, network):
    """Each image's path is followed by attacking it alone."""
    lengths = []
    for row in range(N):
        asked = Asked(network)
        found = run(images[row : row + 1], labels[row : row + 1], asked, [row], epsilon=0.1)
        batches = torch.cat(asked.batches)
        margins = margin(network(batches), labels[row].expand(len(batches)), False)
        kept = torch.cummin(margins[1:], 0).values
        end = margin(network(images[row : row + 1] + found), labels[row : row + 1], False)
        assert end.item() == pytest.approx(kept[-1].item())
        assert (margins[:-1] >= 0).all() and len(batches) <= 60
        if end >= 0:
            assert len(batches) == 60
        lengths.append(len(batches))
    assert min(lengths) < 60


def test_queries_are_the_most_that_an_image_is_asked(images):
    for queries in (2, 3, 17):
        asked = Asked(constant)
        run(images, torch.zeros(N, dtype=torch.int64), asked, queries=queries)
        assert [len(batch) for batch in asked.batches] == [N] * queries


def test_fooled_images_leave_the_batch(images, labels, network):
    asked = Asked(network)
    run(images, labels, asked, epsilon=0.1)
    sizes = [len(batch) for batch in asked.batches]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == N and sizes[-1] < N


def test_an_image_that_is_fooled_already_is_left(images, labels, network):
    wrong = (labels + 1) % 4
    asked = Asked(network)
    assert not run(images, wrong, asked).any() and len(asked.batches) == 1


def test_it_starts_with_stripes(images):
    asked = Asked(constant)
    run(images / 2 + 0.25, torch.zeros(N, dtype=torch.int64), asked, queries=2)
    clean, stripes = asked.batches
    change = stripes - clean
    assert torch.allclose(change, change[:, :, :1].expand_as(change))
    assert torch.allclose(change.abs(), torch.full_like(change, 0.05))
    assert 0.3 < (change[:, :, 0] > 0).double().mean() < 0.7


def test_each_further_query_changes_one_square(images):
    """A victim whose margin never falls keeps the stripes: every try stands beside them."""
    asked = Asked(constant)
    given = images / 2 + 0.25
    run(given, torch.zeros(N, dtype=torch.int64), asked, queries=40, share=0.5)
    stripes = asked.batches[1]
    places = set()
    for query, batch in enumerate(asked.batches[2:], start=1):
        side = blackbox._side(0.5, query / 39, 6, 5)
        for changed in (batch != stripes).any(1):
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            assert len(rows) > 0, "a query was wasted"
            for found in (rows, columns):
                assert found.max() - found.min() < side
            places.add((side, rows.min().item(), columns.min().item()))
    assert len(places) > 10


def test_sides_shrink_as_in_the_paper():
    """p is 0.8 up to query 10 of 10,000, then halved at each of the paper's marks."""
    expected = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 200: 4, 501: 16, 1001: 32, 2001: 64, 4001: 128}
    expected |= {6001: 256, 8001: 512, 9999: 512}
    for query, halved in expected.items():
        side = max(round(math.sqrt(0.8 / halved * 32 * 32)), 1)
        assert blackbox._side(0.8, query / 10_000, 32, 32) == side
    assert blackbox._side(1.0, 0.0, 4, 9) == 4


def test_squares_come_everywhere():
    firsts = {
        blackbox._stretch(torch.tensor([drawn]), 3, 5)[0].nonzero().flatten().tolist()[0]
        for drawn in (0.0, 0.32, 0.34, 0.65, 0.67, 0.999999)
    }
    assert firsts == {0, 1, 2}


def test_neither_batch_nor_order_matters(images, labels, network):
    whole = run(images, labels, network, epsilon=0.08)
    order = torch.tensor([5, 0, 3])
    found = run(images[order], labels[order], network, order.tolist(), epsilon=0.08)
    assert torch.allclose(found, whole[order], atol=1e-12)


def test_a_target_is_reached(images, network):
    targets = (network(images).argmax(1) + 1) % 4
    found = run(images, targets, network, targeted=True, epsilon=0.4, queries=400)
    reached = network(images + found).argmax(1) == targets
    before = margin(network(images), targets, True)
    assert reached.double().mean() >= 0.5
    assert (margin(network(images + found), targets, True) < before).all()


def test_it_comes_near_what_the_gradient_finds(images, labels, network):
    """As many images are fooled as by 40 steps of BIM, or one less."""
    step = {"alpha": 0.01, "steps": 40, "epsilon": 0.06}
    bim = images + gradient.bim(images, labels, False, network, **step)
    found = images + run(images, labels, network, epsilon=0.06, queries=400)
    fooled = [(network(seen).argmax(1) != labels).sum() for seen in (bim, found)]
    assert 2 <= fooled[0] - 1 <= fooled[1]


def test_no_gradient_is_taken(images, labels, network):
    def victim(given):
        assert not torch.is_grad_enabled()
        return network(given)

    run(images, labels, victim)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"queries": 1}, "queries"), ({"share": 0.0}, "share"), ({"share": 2}, "share")],
)
def test_refuses(images, labels, network, wrong, told):
    with pytest.raises(BadInput, match=rf"settings\.{told}"):
        run(images, labels, network, **wrong)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    epsilon=st.floats(0, 1),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    share=st.floats(0.001, 1),
)
def test_always_finite_and_inside_ball_and_box(seed, epsilon, size, share):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 1, *size, generator=generator).round(decimals=1)
    weights = torch.randn(size[0] * size[1], 3, generator=generator)
    found = blackbox.square(
        images,
        torch.arange(3),
        False,
        lambda given: given.flatten(1) @ weights,
        Noise(seed, range(3), "test"),
        epsilon=epsilon,
        queries=12,
        share=share,
    )
    assert found.isfinite().all() and (found.abs() <= epsilon).all()
    assert (images + found).min() >= 0 and (images + found).max() <= 1
