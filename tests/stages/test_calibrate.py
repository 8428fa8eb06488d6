"""The reconstruction error of a denoiser on held-out images."""

import numpy as np
import pytest
import torch

from scripts.advdenoise import store
from scripts.advdenoise.stages import models
from scripts.advdenoise.stages.data import open_images

FILE = "seed0/digits/denoisers/of_noise.calibration.json"


def test_mean_and_deviation_over_the_held_out_images(world):
    path = world.make(FILE)
    found = store.read_json(path)
    with open_images(world.make("images/digits/held_out.h5")) as clean:
        weights = world.make("seed0/digits/denoisers/of_noise.safetensors")
        entry = world.settings(FILE)["denoiser"]
        denoise = models.trained("denoisers", weights, entry, clean)
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
    with torch.no_grad():
        errors = [float(((x.double() - denoise(x[None])[0].double()) ** 2).sum()) for x in images]
    assert found["images"] == len(errors) == 40
    assert found["mean"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert found["deviation"] == pytest.approx(np.std(errors, ddof=1), rel=1e-4)
    assert store.read_provenance(path)["settings"] == world.settings(FILE)


def test_a_purifier_that_lists_it_is_handed_the_calibration(world):
    value = store.read_json(world.make(FILE))
    with open_images(world.make("images/digits/few.h5")) as clean:
        using = models.denoiser(
            world.make("seed0/digits/denoisers/of_noise.safetensors"),
            world.make(FILE),
            world.settings(FILE)["denoiser"],
            clean,
        )
        (batch,) = clean.batches(12, torch.device("cpu"))
    offers = using.offers()
    assert offers["calibration"] == value
    by_hand = (batch.images - offers["denoise"](batch.images)).square().sum((1, 2, 3))
    assert torch.allclose(offers["error"](batch.images), by_hand)
