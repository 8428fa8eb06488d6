import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.noise import Noise

IMAGES = torch.zeros(5, 3, 4, 4)
IDS = [7, 0, 123456789012, 3, 42]


def test_equal_noise_draws_equal_numbers():
    for method in ("uniform", "normal"):
        first, second = (getattr(Noise(1, IDS, "a", "b"), method)(IMAGES) for _ in range(2))
        assert torch.equal(first, second)


def test_streams_depend_on_every_argument():
    noises = [
        Noise(1, IDS, "a", "b"),
        Noise(2, IDS, "a", "b"),
        Noise(1, [i + 1 for i in IDS], "a", "b"),
        Noise(1, IDS, "ab"),
        Noise(1, IDS, "b", "a"),
        Noise(1, IDS, "a", "b", draw=1),
    ]
    drawn = torch.stack([noise.uniform(IMAGES) for noise in noises]).flatten(0, 1).flatten(1)
    assert len(torch.unique(drawn, dim=0)) == len(noises) * len(IDS)


@given(st.permutations(range(5)), st.integers(1, 5))
def test_rows_depend_neither_on_order_nor_on_batch_size(order, size):
    full = Noise(3, IDS, "x")
    rows = order[:size]
    part = Noise(3, [IDS[i] for i in rows], "x")
    for method in ("uniform", "normal", "uniform"):
        expected = getattr(full, method)(IMAGES)[rows]
        assert torch.equal(getattr(part, method)(IMAGES[rows]), expected)
    assert torch.equal(part.integers(1000), full.integers(1000)[rows])


def test_memory_format_and_type_of_ids_do_not_matter():
    expected = Noise(0, IDS).uniform(IMAGES)
    nhwc = IMAGES.to(memory_format=torch.channels_last)
    drawn = Noise(0, torch.tensor(IDS)).uniform(nhwc)
    assert torch.equal(drawn, expected)
    assert drawn.is_contiguous(memory_format=torch.channels_last)
    assert Noise(0, torch.tensor(IDS).numpy()).uniform(IMAGES.double()).dtype == torch.float32


def test_taken_rows_share_their_streams():
    noise, other = Noise(5, IDS), Noise(5, IDS)
    first = noise.take(torch.tensor([4, 1])).uniform(IMAGES[:2])
    assert torch.equal(first, other.uniform(IMAGES)[[4, 1]])
    mask = torch.tensor([False, True, True, False, True])
    second = noise.take(mask).take(torch.tensor([0, 2])).uniform(IMAGES[:2])
    assert torch.equal(second, other.uniform(IMAGES)[[1, 4]])
    # The streams of the other rows have not advanced.
    assert torch.equal(noise.uniform(IMAGES)[0], Noise(5, IDS).uniform(IMAGES)[0])


def test_ranges_and_moments():
    images = torch.zeros(20, 3, 64, 64)
    low = torch.linspace(-1, 0, 20).view(-1, 1, 1, 1)
    uniform = Noise(9, range(20)).uniform(images, low, -low)
    assert (uniform >= low).all() and (uniform <= -low).all()
    unit = Noise(9, range(20)).uniform(images)
    assert 0 <= unit.min() < 1e-3 and 0.999 < unit.max() < 1
    assert abs(unit.mean() - 0.5) < 3e-3
    normal = Noise(9, range(20)).normal(images, std=0.25)
    assert abs(normal.mean()) < 3e-3 and abs(normal.std() - 0.25) < 3e-3
    integers = Noise(9, range(3000)).integers(10)
    assert integers.dtype == torch.int64 and set(integers.tolist()) == set(range(10))
    assert integers.bincount().min() > 220


def test_streams_do_not_change_between_versions():
    """Results on disk must stay reproducible."""
    expected = [[0.4180281162261963, 0.2927727699279785], [0.7770764231681824, 0.6109840869903564]]
    drawn = Noise(0, [1, 2], "pgd").uniform(torch.zeros(2, 2))
    assert torch.allclose(drawn, torch.tensor(expected), atol=1e-7)


def test_wrong_number_of_rows():
    with pytest.raises(ValueError, match="must have 1 rows, got 5"):
        Noise(0, [1]).uniform(IMAGES)


def test_a_copy_goes_on_from_the_same_place_apart():
    noise = Noise(0, range(4), "test")
    like = torch.empty(4, 3)
    noise.take(torch.tensor([1, 2])).uniform(like[:2])
    copy = noise.take(torch.tensor([2, 0])).copy()
    first = copy.uniform(like[:2])
    copy.uniform(like[:2])
    assert torch.equal(noise.uniform(like)[[2, 0]], first)
