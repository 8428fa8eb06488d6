"""The calibrate stage: the reconstruction error of a denoiser on clean held-out images."""

import time
from pathlib import Path

import torch

from advdenoise.errors import BadInput
from advdenoise.io.json_files import write_json
from advdenoise.io.provenance import collect_provenance
from advdenoise.stages import models
from advdenoise.stages.data import open_images


def run(settings: dict, images: Path, denoiser: Path, output: Path) -> None:
    """Write mean and standard deviation of the reconstruction error, and the number of images.

    The error is the sum over all elements of (X - A(X))^2 for each image (APuDAE, equation 7).
    Beside it stand the denoiser's `layers`, as `models.layers` tells them.
    """
    started = time.time()
    with open_images(images) as clean, torch.inference_mode():
        using = models.denoiser(denoiser, None, settings["denoiser"], clean)
        batches = clean.batches(settings["batch"], models.device())
        errors = torch.cat([using.error(batch.images).cpu().double() for batch in batches])
    wrong = int((~errors.isfinite()).sum())
    if wrong or len(errors) < 2:
        what = f"of {wrong} of {len(errors)} images is not finite" if wrong else "is of one image"
        raise BadInput(
            f"denoisers.{settings['denoiser']['name']}: the reconstruction error {what}; calibrate "
            "a denoiser that gives finite images, on two images or more"
        )
    value = {
        "mean": errors.mean().item(),
        "deviation": errors.std().item(),
        "images": len(errors),
        "layers": models.layers(using.denoise),
    }
    write_json(output, value, collect_provenance(settings, started))
