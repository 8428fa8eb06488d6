"""The reconstruction error of a denoiser on held-out images."""

import numpy as np
import pytest
import torch

from advdenoise.denoisers.autoencoders import red_net
from advdenoise.denoisers.laine import unet
from advdenoise.inference import capacity
from advdenoise.io.json_files import read_json
from advdenoise.io.provenance import read_provenance
from advdenoise.stages import models
from advdenoise.stages.data import open_images

FILE = "seed0/digits/denoisers/of_noise.calibration.json"


def test_mean_and_deviation_over_the_held_out_images(world):
    path = world.make(FILE)
    result = read_json(path)
    with open_images(world.make("images/digits/held_out.h5")) as clean:
        weights = world.make("seed0/digits/denoisers/of_noise.safetensors")
        entry = world.settings(FILE)["denoiser"]
        denoise = models.load_frozen("denoisers", weights, entry, clean)
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
    with torch.no_grad():
        errors = [float(((x.double() - denoise(x[None])[0].double()) ** 2).sum()) for x in images]
    assert result["images"] == len(errors) == 40
    assert result["mean"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert result["deviation"] == pytest.approx(np.std(errors, ddof=1), rel=1e-4)
    assert read_provenance(path)["settings"] == world.settings(FILE)


def test_the_layers_are_told_with_what_follows_them(world):
    layers = read_json(world.make(FILE))["layers"]
    followed = "+Relu+BatchNorm2d"
    sizes = [tuple(layer.values()) for layer in layers]
    assert sizes == [
        (f"Conv2d{followed}", 3, 2, 1, 4, 1 * 9 * 4 + 4 + 8),
        (f"Conv2d{followed}", 3, 1, 1, 4, 4 * 9 * 4 + 4 + 8),
        (f"DeConv2d{followed}", 3, 1, 1, 4, 4 * 9 * 4 + 4 + 8),
        ("DeConv2d", 3, 2, 1, 1, 4 * 9 * 1 + 1),
    ]
    assert list(layers[0]) == ["layer", "kernel", "stride", "padding", "filters", "parameters"]


def test_layers_of_the_papers_networks_add_up():
    for network, count, total in (
        (red_net((3, 32, 32)), 30, 1_041_219),
        (red_net((3, 32, 32), layers=4), 4, 77_763),
        (unet((3, 32, 32)), 20, 1_102_371),
    ):
        layers = capacity.layers(network)
        assert len(layers) == count and sum(layer["parameters"] for layer in layers) == total
    dense = capacity.layers(torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU()))
    assert [tuple(layer.values()) for layer in dense] == [("Linear+Relu", None, None, None, 5, 20)]


def test_a_purifier_that_lists_it_is_handed_the_calibration(world):
    value = read_json(world.make(FILE))
    with open_images(world.make("images/digits/few.h5")) as clean:
        using = models.denoiser(
            world.make("seed0/digits/denoisers/of_noise.safetensors"),
            world.make(FILE),
            world.settings(FILE)["denoiser"],
            clean,
        )
        (batch,) = clean.batches(12, torch.device("cpu"))
    injected = using.injected()
    assert injected["calibration"] == value
    by_hand = (batch.images - injected["denoise"](batch.images)).square().sum((1, 2, 3))
    assert torch.allclose(injected["error"](batch.images), by_hand)
