"""Image sets and adversarial sets as the jobs read them, batch by batch."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from scripts.advdenoise import store
from scripts.advdenoise.components import suggest
from scripts.advdenoise.errors import BadInput


class Batch(NamedTuple):
    """Some images of a set: places in it, float32 [N,C,H,W] in [0,1], labels, ids [N].

    Labels are int64 [N], of a dense set [N,H,W], where 255 is a pixel without a class.
    """

    rows: slice | np.ndarray
    images: Tensor
    labels: Tensor
    ids: np.ndarray


@dataclass(frozen=True)
class ImageSet:
    """An image set on disk: uint8 [N,C,H,W], read as it is used; labels and ids in memory.

    `labels` are int64 [N]; of a dense set they are its masks on disk, uint8 [N,H,W].
    """

    path: Path
    stored: h5py.Dataset
    labels: np.ndarray | h5py.Dataset
    ids: np.ndarray
    classes: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dense(self) -> bool:
        """Whether each pixel has a class, and not each image."""
        return self.labels.ndim > 1

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.stored.shape[1:])

    def target_of(self, attack: dict) -> int | None:
        """The one class that an attack's entry drives all images to; None where it has none.

        Raises BadInput where there is no such class.
        """
        labels = attack.get("labels")
        if not isinstance(labels, dict):
            return None
        target = labels["target"]
        if target in self.classes:
            return self.classes.index(target)
        if isinstance(target, int) and target < len(self.classes):
            return target
        raise BadInput(
            f"attacks.{attack['name']}.labels.target: {target!r} is no class of {self.path}, whose "
            f"{len(self.classes)} classes are numbered from 0; {suggest(target, self.classes)}"
        )

    def batches(self, size: int, device: torch.device, count: int | None = None) -> Iterator[Batch]:
        """The first `count` images (all by default), `size` at a time, channels-last."""
        total = len(self) if count is None else min(count, len(self))
        for start in range(0, total, size):
            yield self.batch(slice(start, min(start + size, total)), device)

    def batch(self, rows: slice | np.ndarray, device: torch.device) -> Batch:
        """The images of these rows, given as a slice or in rising order; channels-last."""
        images = torch.from_numpy(self.stored[rows]).to(device).float().div_(255)
        return Batch(
            rows,
            images.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(self.labels[rows]).to(device).long(),
            self.ids[rows],
        )


@contextmanager
def open_images(path: Path) -> Iterator[ImageSet]:
    """Open an image set; BadInput or DamagedFile naming the file where that fails."""
    with store.open_hdf5(path, "images") as file:
        classes = json.loads(file.attrs["classes"])
        labels = file["masks"] if "masks" in file else file["labels"][:]
        yield ImageSet(Path(path), file["images"], labels, file["ids"][:], classes)


@dataclass(frozen=True)
class AdversarialSet:
    """An adversarial set on disk: one float32 perturbation [N,C,H,W] for each point."""

    path: Path
    threat: str
    points: dict[str, h5py.Group]

    def perturbation(self, point: str, rows: slice | np.ndarray, device: torch.device) -> Tensor:
        """The perturbations of these rows, channels-last."""
        stored = torch.from_numpy(self.points[point]["perturbation"][rows]).to(device)
        return stored.contiguous(memory_format=torch.channels_last)

    def epsilon(self, point: str) -> np.ndarray:
        """The budget of each image, NaN for attacks without one: float32 [N]."""
        return self.points[point]["epsilon"][:]

    def success(self, point: str) -> np.ndarray:
        """Whether the victim errs on the adversarial image: bool [N]."""
        return self.points[point]["success"][:].astype(bool)


@contextmanager
def open_adversarial(path: Path, images: ImageSet) -> Iterator[AdversarialSet]:
    """Open an adversarial set made from `images`; BadInput where it was made from others."""
    with store.open_hdf5(path, "adversarial") as file:
        if not np.array_equal(file["ids"][:], images.ids):
            raise BadInput(
                f"{path} was made from other images than {images.path}; delete it and run "
                f"`snakemake --cores all {path}`"
            )
        yield AdversarialSet(Path(path), file.attrs["threat"], dict(file["points"].items()))


@contextmanager
def open_sets(
    threats: list[str], paths: list[Path], images: ImageSet
) -> Iterator[dict[str, AdversarialSet]]:
    """Open the adversarial sets of these threats, by the threat that each file says it holds.

    The order of `paths` means nothing. Raises BadInput where a file holds another threat, or one
    that another file holds.
    """
    with ExitStack() as files:
        sets: dict[str, AdversarialSet] = {}
        for path in paths:
            opened = files.enter_context(open_adversarial(path, images))
            if opened.threat not in threats or opened.threat in sets:
                wanted = ", ".join(name for name in threats if name not in sets)
                raise BadInput(
                    f"{path}: holds {opened.threat}, where {wanted or 'nothing'} is needed; delete "
                    f"it and run `snakemake --cores all {path}`"
                )
            sets[opened.threat] = opened
        if missing := [name for name in threats if name not in sets]:
            raise BadInput(f"adversarial: no file holds {', '.join(missing)}; give one for each")
        yield sets
