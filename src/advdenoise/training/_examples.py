"""What a batch of training images consists of; 8-bit images stay 8-bit until they are used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from advdenoise.calls import call_with
from advdenoise.noise import Noise

# Perturbations that together take no more bytes are kept in memory: random rows of a compressed
# file cost more than the training step of a small denoiser.
_IN_MEMORY = 8 << 30


class Clean:
    """Images as they are, for classifiers: inputs and targets are the same.

    Args:
        images: [N, C, H, W] uint8.
        labels: [N] int64, or masks [N, H, W] uint8, 255 where a pixel has no class.
        ids: [N] image ids, which the random numbers of an image derive from.
    """

    def __init__(self, images: Tensor, labels: Tensor, ids: Sequence[int]):
        self._images, self._labels = torch.as_tensor(images), torch.as_tensor(labels)
        self.ids = torch.as_tensor(ids)
        if not len(self._images) == len(self._labels) == len(self.ids):
            raise ValueError("images, labels and ids differ in number")

    def __len__(self) -> int:
        return len(self._images)

    @property
    def truth(self) -> str:
        """What a batch calls what is to be learnt: `labels`, or `masks` where it has them."""
        return "labels" if self._labels.ndim == 1 else "masks"

    def targets(self, index: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """The clean images at `index` (int64) on `device`: float32 in [0, 1], channels-last."""
        images = self._images[index].to(device).float().div_(255)
        return images.contiguous(memory_format=torch.channels_last)

    def batch(
        self, index: Tensor, noise: Noise, epoch: int, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """The examples at `index` as `images`, `targets` and `labels` or `masks` on `device`.

        Images and targets are as `targets` gives them; labels [N] and masks [N, H, W] are int64.
        """
        images, truth = self.targets(index, device), self._labels[index].to(device).long()
        return {"images": images, "targets": images, self.truth: truth}


@dataclass(frozen=True)
class Part:
    """A share of every batch and what is added to its images.

    `points` are used in turn, so that an image meets another one in each epoch: arrays
    [N, C, H, W] of float32 perturbations, row by row those of the training images (numpy or an
    open HDF5 dataset), or noise functions that are handed `images` and `noise`. Without points the
    images stay clean.
    """

    share: float
    points: Sequence[np.ndarray | Callable] = field(default=())


class Mixture(Clean):
    """Images to be denoised: inputs are perturbed as the parts say, targets are clean.

    Every batch holds the parts in their shares (largest remainder), at random places; an epoch
    goes over all images once. Arguments as `Clean`'s.
    """

    def __init__(self, images: Tensor, labels: Tensor, ids: Sequence[int], parts: Sequence[Part]):
        super().__init__(images, labels, ids)
        stored = [p for part in parts for p in part.points if not callable(p)]
        if any(len(array) != len(self) for array in stored):
            raise ValueError("perturbations and images differ in number")
        fits = sum(array.nbytes for array in stored) <= _IN_MEMORY
        self._parts = [
            Part(part.share, [p[:] if fits and not callable(p) else p for p in part.points])
            for part in parts
        ]

    def batch(
        self, index: Tensor, noise: Noise, epoch: int, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """As `Clean.batch`; inputs are clipped to [0, 1]."""
        batch = super().batch(index, noise, epoch, device)
        images = batch["targets"].clone()
        places = torch.arange(len(index))
        if len(self._parts) > 1:
            places = noise.uniform(torch.empty(len(index), 1)).flatten().argsort()
        counts = largest_remainder([part.share for part in self._parts], len(index))
        for part, rows in zip(self._parts, places.split(counts), strict=True):
            turns = (index[rows] + epoch) % max(len(part.points), 1)
            for turn, point in enumerate(part.points):
                chosen = rows[turns == turn]
                if len(chosen):
                    clean = images[chosen.to(device)]
                    perturbation = _perturbation(point, clean, index[chosen], noise.take(chosen))
                    images[chosen.to(device)] = (clean + perturbation).clamp_(0, 1)
        return {**batch, "images": images}


def largest_remainder(shares: Sequence[float], seats: int) -> list[int]:
    """Whole numbers in proportion to `shares` that add up to `seats` (Hamilton's method)."""
    exact = np.asarray(shares, dtype=np.float64) * seats / sum(shares)
    counts = np.floor(exact + 1e-9).astype(int)
    # Equal remainders go to the first; the small term above keeps 0.3 * 40 from being 11.99...
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: seats - counts.sum()]] += 1
    return counts.tolist()


def _perturbation(point, clean: Tensor, rows: Tensor, noise: Noise) -> Tensor:
    if callable(point):
        return call_with(point, images=clean, noise=noise)
    # An HDF5 dataset wants increasing rows.
    order = rows.argsort()
    stored = np.empty((len(rows), *clean.shape[1:]), dtype=np.float32)
    stored[order.numpy()] = point[rows[order].numpy()]
    return torch.from_numpy(stored).to(clean.device)
