"""Denoisers that do not fit their weights or the images."""

import pytest
from torch import nn

from advdenoise.denoisers.autoencoders import red_net
from advdenoise.errors import BadInput
from advdenoise.io.weights import write_weights
from advdenoise.stages import models
from advdenoise.stages.data import open_images

WEIGHTS = "seed0/digits/denoisers/of_noise.safetensors"
CALIBRATION = "seed0/digits/denoisers/of_noise.calibration.json"
IMAGES = "images/digits/few.h5"


def load_denoiser(world, **changes):
    with open_images(world.make(IMAGES)) as clean:
        entry = {**world.settings(CALIBRATION)["denoiser"], **changes}
        return models.denoiser(world.make(WEIGHTS), None, entry, clean)


def test_weights_for_colour_are_refused_for_grey_images(world, tmp_path):
    path = tmp_path / "colour.safetensors"
    write_weights(path, red_net((3, 16, 16), layers=4, width=4).state_dict(), {})
    with (
        open_images(world.make(IMAGES)) as clean,
        pytest.raises(BadInput, match="holds weights of another network than denoisers.of_noise"),
    ):
        models.denoiser(path, None, world.settings(CALIBRATION)["denoiser"], clean)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(1, 3, 1), "denoisers.of_noise: .* turns images of 1x.* into 3x"),
        (nn.Conv2d(3, 1, 1), "denoisers.of_noise: .* does not take images of 1x"),
    ],
)
def test_a_network_of_other_channels_is_refused(world, monkeypatch, network, message):
    monkeypatch.setattr(models, "load_frozen", lambda *args: network)
    with pytest.raises(BadInput, match=message):
        load_denoiser(world)
