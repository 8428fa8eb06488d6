"""The images of a suite, clean and adversarial, batch by batch and threat by threat."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from advdenoise.graph.threats import CLEAN
from advdenoise.io.schemas import FACTS
from advdenoise.stages.data import AdversarialSet, Batch, ImageSet, open_sets

# The point of images that no attack touched.
NO_POINT = "default"


class ThreatBatch(NamedTuple):
    """A batch under one threat: images float32 [N,C,H,W] in [0,1], budgets [N], NaN without one.

    `success` tells where the victim erred [N]; None for clean images. `facts` are what the attack
    tells of each image, by name.
    """

    threat: str
    point: str
    images: Tensor
    epsilon: np.ndarray
    success: np.ndarray | None
    facts: dict[str, np.ndarray | None] = dict.fromkeys(FACTS.names)


class Threats:
    """The threats of a job, clean images among them, in the order of the suite."""

    def __init__(self, names: list[str], sets: dict[str, AdversarialSet]):
        self._names, self._sets = names, sets
        self._stored = {
            (name, point): (
                adversarial.epsilon(point),
                adversarial.success(point),
                adversarial.facts(point),
            )
            for name, adversarial in sets.items()
            for point in adversarial.points
        }

    def iter_batches(self, batch: Batch, names: list[str] | None = None) -> Iterator[ThreatBatch]:
        """Every point of every threat, or of those named, for these images."""
        for name in self._names if names is None else names:
            if name == CLEAN:
                unknown = np.full(len(batch.ids), np.nan, dtype=np.float32)
                yield ThreatBatch(name, NO_POINT, batch.images, unknown, None)
                continue
            for point in self._sets[name].points:
                epsilon, success, facts = self._stored[name, point]
                images = batch.images + self._sets[name].perturbation(point, batch)
                rows = batch.rows
                known = {f: None if v is None else v[rows] for f, v in facts.items()}
                yield ThreatBatch(name, point, images, epsilon[rows], success[rows], known)

    def gradients_not_finite(self) -> dict[tuple[str, str], int]:
        """At how many images an attack had no finite gradient, by threat and point."""
        return {
            (name, point): adversarial.gradients_not_finite(point)
            for name, adversarial in self._sets.items()
            for point in adversarial.points
        }


@contextmanager
def open_threats(names: list[str], paths: list[Path], images: ImageSet) -> Iterator[Threats]:
    """Open the adversarial sets `paths`, in any order, of the threats `names` but the clean one."""
    with open_sets([name for name in names if name != CLEAN], paths, images) as sets:
        yield Threats(names, sets)
