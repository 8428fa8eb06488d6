import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.noise import Noise
from advdenoise.training import _examples
from advdenoise.training._examples import Clean, Mixture, Part, largest_remainder

N = 60


def images(n: int = N) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(60, 200, (n, 3, 4, 4), np.uint8))


def noise(index, epoch=0):
    return Noise(1, index, "test", draw=epoch)


def mixture(*parts: Part) -> Mixture:
    return Mixture(images(), torch.arange(N), range(N), parts)


def constant(value: float) -> np.ndarray:
    return np.full((N, 3, 4, 4), value, np.float32)


def added(batch: dict) -> torch.Tensor:
    """The perturbation of each image, which is constant in these tests."""
    return (batch["images"] - batch["targets"]).amax((1, 2, 3))


def test_clean_images_are_exact_and_channels_last():
    labels = torch.arange(N) % 7
    clean = Clean(images(), labels, range(100, 100 + N))
    index = torch.tensor([5, 3, 59])
    batch = clean.batch(index, noise(index), 0)
    assert torch.equal(batch["images"], images()[index].float() / 255)
    assert torch.equal(batch["targets"], batch["images"])
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)
    assert batch["labels"].tolist() == [5, 3, 3]
    assert clean.ids[index].tolist() == [105, 103, 159]
    assert len(clean) == N


def test_examples_with_masks():
    masks = torch.arange(N, dtype=torch.uint8)[:, None, None].expand(-1, 4, 4)
    clean, mixed = (images(), masks, range(N)), (images(), masks, range(N), [Part(1)])
    for examples in (Clean(*clean), Mixture(*mixed)):
        index = torch.tensor([5, 3])
        batch = examples.batch(index, noise(index), 0)
        assert examples.label_name == "masks" and "labels" not in batch
        assert batch["masks"].dtype == torch.int64
        assert torch.equal(batch["masks"], masks[index].long())


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="images, labels and ids differ"):
        Clean(images(), torch.arange(3), range(N))
    with pytest.raises(ValueError, match="perturbations and images differ"):
        mixture(Part(1, [constant(0)[:5]]))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(1, 300))
def test_largest_remainder_keeps_the_quota(shares, total):
    counts = largest_remainder(shares, total)
    exact = np.array(shares) * total / sum(shares)
    assert sum(counts) == total
    assert all(
        np.floor(e) - 1e-6 <= c <= np.ceil(e) + 1e-6 for c, e in zip(counts, exact, strict=True)
    )


def test_largest_remainder_of_known_shares():
    # Yoon et al. 2019: 0.05 : 0.30 : 0.05 : 0.30 : 0.30 of batches of 40.
    assert largest_remainder([0.05, 0.3, 0.05, 0.3, 0.3], 40) == [2, 12, 2, 12, 12]
    assert largest_remainder([0.05, 0.3, 0.05, 0.3, 0.3], 20) == [1, 6, 1, 6, 6]
    assert largest_remainder([0.5, 0.5], 5) == [3, 2]
    assert largest_remainder([0.1, 0.1, 0.8], 4) == [1, 0, 3]


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=5),
    st.permutations(range(N)),
    st.integers(1, N),
    st.integers(0, 3),
)
def test_every_batch_contains_the_shares(shares, order, size, epoch):
    parts = [Part(s, [constant(0.01 * (i + 1))]) for i, s in enumerate(shares)]
    index = torch.tensor(order[:size])
    batch = mixture(*parts).batch(index, noise(index, epoch), epoch)
    counts = largest_remainder(shares, size)
    for i, count in enumerate(counts):
        assert (added(batch) - 0.01 * (i + 1)).abs().lt(1e-4).sum() == count


def test_positions_are_random_in_each_epoch():
    half = mixture(Part(0.5), Part(0.5, [constant(0.1)]))
    index = torch.arange(N)
    first, second = (added(half.batch(index, noise(index, e), e)) > 0.05 for e in (0, 1))
    assert first.sum() == second.sum() == N // 2
    assert not torch.equal(first, second)
    assert 0 < first[: N // 2].sum() < N // 2


def test_points_are_cycled_through():
    points = [constant(v) for v in (0.01, 0.02, 0.03)]
    threat = mixture(Part(1, points))
    index = torch.tensor([7, 8, 9])
    perturbations = torch.stack([added(threat.batch(index, noise(index, e), e)) for e in range(3)])
    expected = torch.tensor([[0.02, 0.03, 0.01], [0.03, 0.01, 0.02], [0.01, 0.02, 0.03]])
    torch.testing.assert_close(perturbations, expected, atol=1e-6, rtol=0)


def test_inputs_are_clipped_and_targets_stay_clean():
    index = torch.arange(N)
    batch = mixture(Part(1, [constant(0.9)])).batch(index, noise(index), 0)
    assert batch["images"].max() == 1
    assert torch.equal(batch["targets"], images().float() / 255)
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
def test_arrays_and_hdf5_datasets_are_equivalent(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(_examples, "_IN_MEMORY", in_memory)
    rows = np.random.default_rng(1).normal(0, 0.05, (N, 3, 4, 4)).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("perturbation", data=rows, chunks=(7, 3, 4, 4))
        index = torch.randperm(N, generator=torch.Generator().manual_seed(0))[:33]
        from_array = mixture(Part(1, [rows])).batch(index, noise(index), 0)
        from_file = mixture(Part(1, [stored])).batch(index, noise(index), 0)
    assert torch.equal(from_array["images"], from_file["images"])
    expected = (images()[index].float() / 255 + torch.from_numpy(rows)[index]).clamp(0, 1)
    assert torch.equal(from_array["images"], expected)


def test_noise_functions_use_the_random_stream_of_each_image():
    def gaussian(images, noise, *, std=0.1):
        return noise.normal(images, std)

    noisy = mixture(Part(1, [gaussian]))
    index = torch.tensor([4, 9, 2])
    batch = noisy.batch(index, noise(index), 0)
    alone = noisy.batch(index[1:2], noise(index[1:2]), 0)
    assert torch.equal(batch["images"][1:2], alone["images"])
    assert not torch.equal(batch["images"], batch["targets"])
    other_epoch = noisy.batch(index, noise(index, 1), 1)
    assert not torch.equal(batch["images"], other_epoch["images"])


def test_a_part_without_points_is_clean():
    index = torch.arange(10)
    batch = mixture(Part(1)).batch(index, noise(index), 0)
    assert torch.equal(batch["images"], batch["targets"])
    assert batch["images"] is not batch["targets"]
