"""The calibrate stage: the reconstruction error of a denoiser on clean held-out images."""

import time
from collections.abc import Iterable
from pathlib import Path

import torch

from advdenoise.errors import BadInput
from advdenoise.inference import capacity
from advdenoise.io.json_files import write_json
from advdenoise.io.provenance import collect_provenance
from advdenoise.stages import models
from advdenoise.stages.data import Batch, open_images


def run(settings: dict, images: Path, denoiser: Path, output: Path) -> None:
    """Write mean and standard deviation of the reconstruction error, and the number of images.

    Beside them stand the denoiser's `layers`, as `capacity.layers` gives them.
    """
    started = time.time()
    with open_images(images) as clean:
        network = models.denoiser(denoiser, None, settings["denoiser"], clean)
        assert network is not None
        batches = clean.batches(settings["batch"], models.device())
        value = calibration_of(f"denoisers.{settings['denoiser']['name']}", network, batches)
    value["layers"] = capacity.layers(network.denoise)
    write_json(output, value, collect_provenance(settings, started))


@torch.inference_mode()
def calibration_of(key: str, denoiser: models.Denoiser, batches: Iterable[Batch]) -> dict:
    """Mean and standard deviation of the reconstruction error, and the number of images.

    The error is the sum over all elements of (X - A(X))^2 for each image (Kalaria
    et al. 2022, equation 7).
    Raises BadInput, which begins with `key`, where one is not finite or there is only one.
    """
    errors = torch.cat([denoiser.error(batch.images).cpu().double() for batch in batches])
    wrong = int((~errors.isfinite()).sum())
    if wrong or len(errors) < 2:
        what = f"of {wrong} of {len(errors)} images is not finite" if wrong else "is of one image"
        raise BadInput(
            f"{key}: the reconstruction error {what}; calibrate a denoiser that gives finite "
            "images, on two images or more"
        )
    return {
        "mean": errors.mean().item(),
        "deviation": errors.std().item(),
        "images": len(errors),
    }
