"""Random numbers that depend on an image and not on its position in a batch."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed of 63 bits derived from the replicate's seed and the names of a purpose."""
    digest = hashlib.sha256(json.dumps([int(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Noise:
    """One random stream per row of a batch, each seeded by (seed, image id, names, draw).

    The numbers of a row do not depend on the batch's size or order, nor on the device: they are
    drawn on the CPU and then moved. Streams continue from call to call, so the same calls in the
    same order give the same numbers.

    Args:
        seed: the replicate's seed.
        ids: image id of each row, N whole numbers. Rows with equal ids get equal numbers.
        names: the purpose of the numbers, so that an attack and a defence never share them.
        draw: index of the repetition.
    """

    def __init__(self, seed: int, ids: Sequence[int] | np.ndarray, *names: str, draw: int = 0):
        self._common = hashlib.sha256(json.dumps([int(seed), list(names), int(draw)]).encode())
        self._ids = [int(i) for i in (ids.tolist() if hasattr(ids, "tolist") else ids)]
        self._generators = [None] * len(self._ids)
        self._rows: Sequence[int] = range(len(self._ids))

    def __len__(self) -> int:
        return len(self._rows)

    def uniform(
        self, like: Tensor, low: float | Tensor = 0.0, high: float | Tensor = 1.0
    ) -> Tensor:
        """Draw from [low, high): float32 in the shape [N, ...] of `like`, on its device."""
        return self._fill(like, torch.Tensor.uniform_).mul_(high - low).add_(low)

    def normal(self, like: Tensor, std: float | Tensor = 1.0) -> Tensor:
        """Draw from N(0, std^2): float32 in the shape [N, ...] of `like`, on its device."""
        return self._fill(like, torch.Tensor.normal_).mul_(std)

    def integers(self, high: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw one of 0..high-1 for each row: int64 [N] on `device`."""
        numbers = torch.empty(len(self), dtype=torch.int64)
        for row, generator in zip(numbers, self._streams(), strict=True):
            row.random_(high, generator=generator)
        return numbers.to(device)

    def take(self, index: Tensor) -> "Noise":
        """The noise of the rows at `index` (int64 or a bool mask [N]), with the same streams."""
        index = torch.as_tensor(index).cpu()
        positions = index.nonzero().flatten() if index.dtype == torch.bool else index
        subset = object.__new__(Noise)
        subset._common, subset._ids, subset._generators = self._common, self._ids, self._generators
        subset._rows = [self._rows[i] for i in positions.tolist()]
        return subset

    def restarted(self) -> "Noise":
        """The same rows, with their streams at the start."""
        subset = object.__new__(Noise)
        subset._common, subset._ids, subset._rows = self._common, self._ids, self._rows
        subset._generators = [None] * len(self._ids)
        return subset

    def copy(self) -> "Noise":
        """The same rows, with streams that go on from here apart from these."""
        other = self.restarted()
        for row in self._rows:
            if (generator := self._generators[row]) is not None:
                other._generators[row] = generator.clone_state()
        return other

    def _streams(self) -> list[torch.Generator]:
        for row in self._rows:
            if self._generators[row] is None:
                self._generators[row] = self._generator(self._ids[row])
        return [self._generators[row] for row in self._rows]

    def _generator(self, image: int) -> torch.Generator:
        digest = self._common.copy()
        digest.update(str(image).encode())
        # torch's CPU generator uses 32 bits of its seed: two of n rows share a stream with a
        # probability of n^2 / 2^33, which does not matter in means over images.
        return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:4], "little"))

    def _fill(self, like: Tensor, draw) -> Tensor:
        if len(like) != len(self):
            raise ValueError(f"`like` must have {len(self)} rows, got {len(like)}")
        # Numbers are drawn in the order of the shape, whatever the memory format of `like`.
        numbers = torch.empty(like.shape, dtype=torch.float32)
        for row, generator in zip(numbers, self._streams(), strict=True):
            draw(row, generator=generator)
        return torch.empty_like(like, dtype=torch.float32, requires_grad=False).copy_(numbers)
