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

from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput, remedy, suggest
from advdenoise.io.files import damage_error
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.schemas import FACTS

# The attribute of a point that counts images at which its attack had no finite gradient.
GRADIENTS = "gradients_not_finite"

_ROUNDING = 1e-6  # of a budget or a pixel in [0,1]


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
        labels = self.labels[rows]
        if self.dense and not _are_classes(labels[labels != IGNORED], self.classes):
            raise damage_error(self.path, f"a pixel is of none of its {len(self.classes)} classes")
        return Batch(
            rows,
            images.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(labels).to(device).long(),
            self.ids[rows],
        )


@contextmanager
def open_images(path: Path) -> Iterator[ImageSet]:
    """Open an image set; BadInput or DamagedFile naming the file where that fails."""
    with open_hdf5(path, "images") as file:
        classes = json.loads(file.attrs["classes"])
        labels = file["masks"] if "masks" in file else file["labels"][:]
        image_set = ImageSet(Path(path), file["images"], labels, file["ids"][:], classes)
        _check_images(image_set, json.loads(file.attrs["provenance"]).get("settings", {}))
        yield image_set


def _check_images(images: ImageSet, settings: dict) -> None:
    """Raises DamagedFile where the arrays of an image set do not belong together."""
    count = len(images)
    split = settings.get("entry", {}).get("splits", {}).get(settings.get("split")) or {}
    if not len(images.stored) == len(images.labels) == count > 0:
        raise damage_error(
            images.path,
            f"it holds {len(images.stored)} images, {len(images.labels)} labels and {count} ids",
        )
    if count != split.get("size", count):
        raise damage_error(images.path, f"it holds {count} images of {split['size']}")
    if len(np.unique(images.ids)) != count:
        raise damage_error(images.path, "it holds an image twice")
    if not images.dense and not _are_classes(images.labels, images.classes):
        raise damage_error(images.path, f"a label is none of its {len(images.classes)} classes")


def _are_classes(labels: np.ndarray, classes: list[str]) -> bool:
    return not len(labels) or (labels.min() >= 0 and labels.max() < len(classes))


class Perturbations:
    """The perturbations of one point on disk, float32 [N,C,H,W], checked as they are read."""

    def __init__(self, path: Path, group: h5py.Group):
        self._path = path
        self._stored: h5py.Dataset = group["perturbation"]
        self.shape, self.nbytes = self._stored.shape, self._stored.nbytes
        settings = json.loads(group.attrs.get("entry", "{}")).get("settings", {})
        self._reach = reach(settings, group["epsilon"][:])

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """These rows, given as a slice or in rising order.

        Raises DamagedFile where one is not finite or beyond the budget of its image.
        """
        perturbations = self._stored[rows]
        if reason := why_impossible(perturbations, self._reach[rows]):
            raise damage_error(self._path, reason)
        return perturbations


def reach(settings: dict, epsilons: np.ndarray) -> np.ndarray:
    """How far a pixel of each image may be moved by an attack of these settings: [N].

    `epsilons` are the budgets, NaN where there is none. An attack that starts beside the image may
    go beyond its budget by as much (R-FGSM).
    """
    start = settings.get("start_radius") or 0.0
    return np.nan_to_num(epsilons, nan=np.inf) + start


def why_impossible(perturbations: np.ndarray, reach: np.ndarray) -> str | None:
    """What is wrong with perturbations [N,C,H,W] that may reach so far [N]; None where nothing."""
    rows = perturbations.reshape(len(perturbations), -1)
    if not rows.size:
        return None
    furthest = np.maximum(rows.max(1), -rows.min(1))
    if not np.isfinite(furthest).all():
        return "its perturbations are not finite"
    beyond = furthest > reach + _ROUNDING
    if beyond.any():
        return (
            f"a perturbation of {furthest[beyond][0]:.3g} is beyond the budget of "
            f"{reach[beyond][0]:.3g}"
        )
    return None


def leads_out(images: Tensor, perturbation: Tensor) -> bool:
    """Whether a perturbed image leaves [0,1], which all attacks and corruptions keep to."""
    pixels = images + perturbation
    return bool(((pixels < -_ROUNDING) | (pixels > 1 + _ROUNDING)).any())


@dataclass(frozen=True)
class AdversarialSet:
    """An adversarial set on disk: one float32 perturbation [N,C,H,W] for each point."""

    path: Path
    threat: str
    points: dict[str, h5py.Group]
    perturbations: dict[str, Perturbations]

    def perturbation(self, point: str, batch: Batch) -> Tensor:
        """The perturbations of a batch, channels-last; DamagedFile where they cannot be."""
        stored = torch.from_numpy(self.perturbations[point][batch.rows]).to(batch.images.device)
        if leads_out(batch.images, stored):
            raise damage_error(self.path, "its perturbations lead out of [0,1]")
        return stored.contiguous(memory_format=torch.channels_last)

    def epsilon(self, point: str) -> np.ndarray:
        """The budget of each image, NaN for attacks without one: float32 [N]."""
        return self.points[point]["epsilon"][:]

    def success(self, point: str) -> np.ndarray:
        """Whether the victim errs on the adversarial image: bool [N]."""
        return self.points[point]["success"][:].astype(bool)

    def facts(self, point: str) -> dict[str, np.ndarray | None]:
        """What the attack tells of each image, by the names of `FACTS`; None where nothing."""
        group = self.points[point]
        kinds = {field.name: field.type.to_pandas_dtype() for field in FACTS}
        return {
            name: group[name][:].astype(kind) if name in group else None
            for name, kind in kinds.items()
        }

    def gradients_not_finite(self, point: str) -> int:
        """The number of images at which the attack had a gradient that is not finite."""
        return int(self.points[point].attrs.get(GRADIENTS, 0))


@contextmanager
def open_adversarial(path: Path, images: ImageSet) -> Iterator[AdversarialSet]:
    """Open an adversarial set made from `images`; BadInput where it was made from others."""
    with open_hdf5(path, "adversarial") as file:
        if not np.array_equal(file["ids"][:], images.ids):
            raise BadInput(f"{path} was made from other images than {images.path}; {remedy(path)}")
        points = dict(file["points"].items())
        settings = json.loads(file.attrs["provenance"]).get("settings", {})
        _check_points(path, points, images, settings.get("attack", {}).get("points", points))
        perturbations = {name: Perturbations(path, group) for name, group in points.items()}
        yield AdversarialSet(Path(path), file.attrs["threat"], points, perturbations)


def _check_points(path: Path, points: dict, images: ImageSet, expected) -> None:
    """Raises DamagedFile where a point is missing or has not a row for each image."""
    if points.keys() != set(expected):
        raise damage_error(path, f"it holds the points {', '.join(points) or 'of no attack'}")
    shapes: dict[str, tuple[int, ...]] = {"perturbation": (len(images), *images.shape)}
    shapes |= dict.fromkeys(("epsilon", "success"), (len(images),))
    facts = dict.fromkeys(FACTS.names, (len(images),))
    for name, group in points.items():
        present = {array: shape for array, shape in facts.items() if array in group}
        for array, shape in (shapes | present).items():
            if group[array].shape != shape:
                size = "x".join(map(str, group[array].shape))
                raise damage_error(path, f"{array} of {name} is {size} for {len(images)} images")


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
                    f"{path}: holds {opened.threat}, where {wanted or 'nothing'} is needed; "
                    f"{remedy(path)}"
                )
            sets[opened.threat] = opened
        if missing := [name for name in threats if name not in sets]:
            raise BadInput(f"adversarial: no file holds {', '.join(missing)}; give one for each")
        yield sets
