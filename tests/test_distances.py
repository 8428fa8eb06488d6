import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from advdenoise import distances
from advdenoise.distances import Comparison, Taps, distance, layer_distances
from advdenoise.errors import BadInput

finite = st.floats(-1e6, 1e6, width=32)


class Network(nn.Module):
    """An in-place activation that runs twice, a module that never runs, and an LSTM."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Linear(1, 1)
        self.recurrent = nn.LSTM(4, 3, batch_first=True)

    def forward(self, images):
        maps = self.act(self.second(self.act(self.first(images))))
        return self.recurrent(maps.flatten(1).unsqueeze(1)[..., :4])[0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Network().eval()


def reference(a, b):
    """The definitions, with Python's exact summation."""
    a, b = a.astype(float).ravel(), b.astype(float).ravel()
    norm_a, norm_b = (math.sqrt(math.fsum(v * v for v in x)) for x in (a, b))
    l2 = math.sqrt(math.fsum((v - w) ** 2 for v, w in zip(a, b, strict=True)))
    if norm_a == 0 or norm_b == 0:
        return l2, float((norm_a > 0) != (norm_b > 0))
    return l2, 1 - math.fsum(v * w for v, w in zip(a, b, strict=True)) / (norm_a * norm_b)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (2, 3, 2, 3, 2), elements=finite))
def test_distance_matches_its_definition(pair):
    result = distance(torch.from_numpy(pair[0]), torch.from_numpy(pair[1]))
    assert result.elements == 12
    for row, (a, b) in enumerate(zip(*pair, strict=True)):
        l2, cos_d = reference(a, b)
        assert result.l2[row].item() == pytest.approx(l2, rel=1e-12)
        assert result.cos_d[row].item() == pytest.approx(cos_d, abs=1e-12)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (2, 4, 5), elements=finite))
def test_distance_is_symmetric_bounded_and_zero_on_itself(pair):
    a, b = torch.from_numpy(pair)
    first, second = distance(a, b), distance(b, a)
    torch.testing.assert_close(first.l2, second.l2, rtol=0, atol=0)
    torch.testing.assert_close(first.cos_d, second.cos_d, rtol=1e-12, atol=1e-15)
    assert ((first.cos_d >= 0) & (first.cos_d <= 2)).all()
    itself = distance(a, a)
    assert not itself.l2.any() and not itself.cos_d.any()


def test_closed_forms():
    a = torch.tensor([[3.0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]])
    b = torch.tensor([[0.0, 4, 0, 0], [2, 2, 0, 0], [-1, 0, 0, 0], [1, 1, 0, 0]])
    result = distance(a, b)
    torch.testing.assert_close(result.l2, torch.tensor([5, 2**0.5, 2, 2**0.5]).double())
    torch.testing.assert_close(result.cos_d, torch.tensor([1, 0, 2, 1 - 0.5**0.5]).double())
    torch.testing.assert_close(result.ne_d, result.l2 / 4)
    torch.testing.assert_close(result.ne_d_sqrt, result.l2 / 2)


def test_cosine_distance_of_zero_maps():
    a = torch.tensor([[0.0, 0], [0, 0], [1, 2]])
    b = torch.tensor([[0.0, 0], [1, 2], [0, 0]])
    assert distance(a, b).cos_d.tolist() == [0, 1, 1]


def test_distances_of_maps_that_are_not_finite_are_nan():
    result = distance(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, math.nan]]))
    assert result.l2.isnan().all() and result.cos_d.isnan().all()


def test_nearly_parallel_maps_are_compared_exactly():
    # The angle is 1e-6, hence 1 - cos is 5e-13: float32 sums would give 0, and the usual formula in
    # float64 three digits.
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[1.0, 1e-6]])
    assert distance(a, b).cos_d.item() == pytest.approx(5e-13, rel=1e-6)


def test_small_differences_on_large_maps_are_summed_exactly():
    a = torch.full((1, 100_000), 1000.0)
    b = a.clone()
    b[0, ::2] += 0.5
    assert distance(a, b).l2.item() == pytest.approx(math.sqrt(50_000 * 0.25), rel=1e-12)


@pytest.mark.parametrize("block", [1, 3, 7, 24, 100])
def test_distances_do_not_depend_on_the_block_size(monkeypatch, block):
    a, b = torch.randn(2, 5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    expected = distance(a, b)
    monkeypatch.setitem(distances.BLOCK_ELEMENTS, "cpu", block)
    result = distance(a, b)
    torch.testing.assert_close(result.l2, expected.l2, rtol=1e-14, atol=0)
    torch.testing.assert_close(result.cos_d, expected.cos_d, rtol=1e-12, atol=0)


def test_distances_do_not_depend_on_the_memory_format():
    a, b = torch.randn(2, 5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    mixed = distance(a.contiguous(memory_format=torch.channels_last), b)
    torch.testing.assert_close(mixed.l2, distance(a, b).l2, rtol=1e-14, atol=0)


def test_float64_maps_are_not_modified():
    a, b = torch.ones(2, 3).double(), torch.zeros(2, 3).double()
    distance(a, b)
    assert a.eq(1).all() and b.eq(0).all()


def test_shapes_must_be_equal():
    with pytest.raises(ValueError, match=r"must have equal shapes, got \(2, 3\) and \(2, 4\)"):
        distance(torch.ones(2, 3), torch.ones(2, 4))


def test_layers_are_compared_by_name():
    clean = {"a": torch.ones(2, 3), "b": torch.ones(2, 5)}
    other = {"b": torch.zeros(2, 5), "a": torch.ones(2, 3)}
    result = layer_distances(clean, other)
    assert list(result) == ["a", "b"]
    assert result["a"].l2.tolist() == [0, 0]
    assert result["b"].elements == 5 and result["b"].l2.tolist() == [5**0.5] * 2


def test_taps_collect_outputs_in_the_order_of_names(model):
    images = torch.randn(3, 1, 4, 4)
    with Taps(model, ["second", "first"]) as taps:
        model(images)
        maps = taps.take()
    assert list(maps) == ["second", "first"]
    # The in-place activation after each has not changed the collected maps.
    torch.testing.assert_close(maps["first"], model.first(images), rtol=0, atol=0)
    expected = model.second(model.first(images).relu())
    torch.testing.assert_close(maps["second"], expected, rtol=0, atol=0)
    assert (maps["second"] < 0).any()


def test_a_module_that_runs_twice_keeps_its_last_output(model):
    images = torch.randn(3, 1, 4, 4)
    with Taps(model, ["act"]) as taps:
        model(images)
        last = taps.take()["act"]
    expected = model.second(model.first(images).relu()).relu()
    torch.testing.assert_close(last, expected, rtol=0, atol=0)


def test_reduce_is_called_with_each_map(model):
    calls = []

    def reduce(name, output):
        calls.append(name)
        return output.shape

    with Taps(model, ["first", "second"], reduce) as taps:
        model(torch.zeros(2, 1, 4, 4))
        assert taps.take() == {"first": (2, 2, 4, 4), "second": (2, 2, 4, 4)}
    assert calls == ["first", "second"]


@pytest.mark.parametrize("positive", [False, True])
def test_maps_are_compared_with_and_without_relu(positive):
    """A map without negative values has one distance, others have two."""
    a, b = torch.randn(2, 3, 4, 5, 5)
    if positive:
        a, b = a.abs(), b.abs()
    compare = Comparison(["first"])
    compare.clean = {"first": a, "second": a}
    result, other = compare("first", b), compare("second", b)
    expected = distance(a.relu(), b.relu())
    assert torch.equal(result.l2, expected.l2) and torch.equal(result.cos_d, expected.cos_d)
    assert (result.raw is None) == positive and other.raw is None
    raw = distance(a, b)
    assert torch.equal(result.before_relu.l2, raw.l2) and torch.equal(other.l2, raw.l2)
    compare.clean = {"first": b, "second": b}  # replaces the rectified maps, too
    assert (compare("first", b).l2 == 0).all()


def test_relu_is_applied_if_only_one_of_two_maps_is_negative():
    a, b = torch.ones(1, 4), torch.tensor([[1.0, -2.0, 1.0, 1.0]])
    for clean, other in ((a, b), (b, a)):
        compare = Comparison(["map"])
        compare.clean = {"map": clean}
        result = compare("map", other)
        assert (result.l2.item(), result.before_relu.l2.item()) == (1, 3)


@pytest.mark.parametrize("rectified", [(), ("first",)])
def test_maps_are_compared_during_the_pass(model, rectified):
    compare = Comparison(rectified)
    x = torch.randn(3, 1, 4, 4)
    passes = []
    with Taps(model, ["first", "second"], compare) as taps:
        for images in (x, x + 0.1):
            model(images)
            passes.append(taps.take())
        compare.clean = passes[0]
        model(x + 0.1)
        result = taps.take()
    after = [{n: m.relu() if n in rectified else m for n, m in maps.items()} for maps in passes]
    for name, expected in layer_distances(*after).items():
        assert result[name].elements == expected.elements
        assert torch.equal(result[name].l2, expected.l2) and expected.l2.all()
        assert torch.equal(result[name].cos_d, expected.cos_d)


def test_hooks_are_removed(model):
    with Taps(model, ["first"]):
        model(torch.zeros(1, 1, 4, 4))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_outputs_can_be_taken_once(model):
    with Taps(model, ["first"]) as taps:
        model(torch.zeros(1, 1, 4, 4))
        taps.take()
        with pytest.raises(BadInput):
            taps.take()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("secnd", r"distances\.taps: Network has no module 'secnd'; did you mean 'second'\?"),
        ("unused", r"distances\.taps: module 'unused' .* does not run"),
        ("recurrent", r"distances\.taps: module 'recurrent' returns a tuple"),
    ],
)
def test_invalid_taps(model, name, message):
    with pytest.raises(BadInput, match=message), Taps(model, [name]) as taps:
        model(torch.zeros(1, 1, 4, 4))
        taps.take()
