"""The limits stage: how far an attack with a stop rule has gone at each limit of its steps.

An image's path does not depend on the limit, so one run with the largest tells all of them.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from scripts.advdenoise import store
from scripts.advdenoise.contents import ids_digest
from scripts.advdenoise.schemas import LIMITS
from scripts.advdenoise.stages import models
from scripts.advdenoise.stages.attack import Attacker, image_epsilons, open_attacker
from scripts.advdenoise.stages.columns import Columns
from scripts.advdenoise.stages.data import Batch, open_images


def run(
    settings: dict,
    images: Path,
    victim: Path,
    output: Path,
    surrogate: Path | None = None,
    denoiser: Path | None = None,
    calibration: Path | None = None,
) -> None:
    """Write the mean squared perturbation of the split's first images for each limit."""
    started = time.time()
    device = models.device()
    columns = Columns(LIMITS)
    with open_images(images) as clean:
        attacker = open_attacker(settings, clean, victim, surrogate, denoiser, calibration)
        for name, point in settings["attack"]["points"].items():
            epsilons = image_epsilons(point, len(clean))
            batches = clean.batches(settings["batch"], device, settings["images"])
            for batch in tqdm(batches, desc=f"limits {settings['threat']}", disable=None):
                path = _walk(attacker, point, batch, epsilons[batch.rows])
                for steps in range(point["settings"]["steps"] + 1):
                    columns.add(
                        len(batch.ids),
                        id=batch.ids,
                        attack_point=name,
                        steps=steps,
                        # Once all images are done, there are no further steps.
                        mse=path[min(steps, len(path) - 1)],
                    )
        about = settings | {"ids": ids_digest(clean.ids[: settings["images"]])}
        store.write_table(output, columns.table(), store.provenance(about, started))


def _walk(
    attacker: Attacker, point: dict, batch: Batch, epsilons: np.ndarray
) -> tuple[Tensor, ...]:
    """The mean squared perturbation of each image [N] at first and after each step."""
    path: list[Tensor] = []
    attacker(point, batch, epsilons, lambda seen: path.append(seen.square().flatten(1).mean(1)))
    return torch.stack(path).cpu().unbind()
