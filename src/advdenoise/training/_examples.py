"""Training examples: batches of images, targets and labels. Images stay 8-bit until used."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advdenoise.calls import call_with
from advdenoise.noise import Noise

# Perturbations are loaded into memory if together they take at most this many bytes: reading random
# rows of a compressed file costs more than a training step of a small denoiser.
_IN_MEMORY = 8 << 30


class Clean:
    """Clean images, for classifiers: inputs and targets are the same.

    Args:
        images: [N, C, H, W] uint8.
        labels: [N] int64, or masks [N, H, W] uint8 with 255 for pixels without a class.
        ids: [N] image ids, from which the random numbers of an image derive.
    """

    def __init__(self, images: Tensor, labels: Tensor, ids: Sequence[int] | np.ndarray):
        self._images, self._labels = torch.as_tensor(images), torch.as_tensor(labels)
        self.ids = torch.as_tensor(ids)
        if not len(self._images) == len(self._labels) == len(self.ids):
            raise ValueError("images, labels and ids differ in number")

    def __len__(self) -> int:
        return len(self._images)

    @property
    def label_name(self) -> str:
        """The key of the labels in a batch: `labels`, or `masks` for dense data sets."""
        return "labels" if self._labels.ndim == 1 else "masks"

    def targets(self, index: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """The clean images at `index` (int64) on `device`: float32 in [0, 1], channels-last."""
        images = self._images[index].to(device).float().div_(255)
        return images.contiguous(memory_format=torch.channels_last)

    def batch(
        self, index: Tensor, noise: Noise, epoch: int, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """The examples at `index` as `images`, `targets` and `labels` or `masks` on `device`.

        Images and targets are as in `targets`; labels [N] and masks [N, H, W] are int64.
        """
        images, labels = self.targets(index, device), self._labels[index].to(device).long()
        return {"images": images, "targets": images, self.label_name: labels}


@dataclass(frozen=True)
class Part:
    """A share of every batch, and the perturbations that are added to its images.

    `points` are cycled through, so that an image gets another one in each epoch. Each is an array
    [N, C, H, W] of float32 perturbations, one for each training image (numpy or an open HDF5
    dataset), or a noise function of `images` and `noise`. Without points the images stay clean.
    """

    share: float
    points: Sequence[Any] = field(default=())


class Mixture(Clean):
    """Images to be denoised: inputs are perturbed according to `parts`, targets are clean.

    Every batch contains the parts in their shares (largest remainder) at random positions; an epoch
    contains each image once. The other arguments are those of `Clean`.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, ids: Sequence[int] | np.ndarray, parts: Sequence[Part]
    ):
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
        positions = torch.arange(len(index))
        if len(self._parts) > 1:
            positions = noise.uniform(torch.empty(len(index), 1)).flatten().argsort()
        counts = largest_remainder([part.share for part in self._parts], len(index))
        for part, rows in zip(self._parts, positions.split(counts), strict=True):
            point_index = (index[rows] + epoch) % max(len(part.points), 1)
            for i, point in enumerate(part.points):
                selected = rows[point_index == i]
                if len(selected):
                    clean = images[selected.to(device)]
                    own_noise = noise.take(selected)
                    perturbation = _perturbation(point, clean, index[selected], own_noise)
                    images[selected.to(device)] = (clean + perturbation).clamp_(0, 1)
        return {**batch, "images": images}


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to `shares` with the sum `total` (Hamilton's method)."""
    exact = np.asarray(shares, dtype=np.float64) * total / sum(shares)
    counts = np.floor(exact + 1e-9).astype(int)
    # Of equal remainders the first wins; the small term above prevents 0.3 * 40 = 11.99...
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts.tolist()


def _perturbation(point, clean: Tensor, rows: Tensor, noise: Noise) -> Tensor:
    if callable(point):
        return call_with(point, images=clean, noise=noise)
    # HDF5 datasets require increasing row numbers.
    order = rows.argsort()
    stored = np.empty((len(rows), *clean.shape[1:]), dtype=np.float32)
    stored[order.numpy()] = point[rows[order].numpy()]
    return torch.from_numpy(stored).to(clean.device)
