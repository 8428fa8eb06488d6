"""A generator in a denoiser's place: its purifier gets it, and all else says what it is not."""

import numpy as np
import pytest
import torch

from advdenoise.denoisers.gan import wgan
from advdenoise.errors import BadInput
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import HISTORY, PREDICTIONS
from advdenoise.io.weights import write_weights
from advdenoise.noise import Noise
from advdenoise.purifiers.gan import defense_gan
from advdenoise.stages import models
from advdenoise.stages.data import open_images

ENTRY = {"name": "mine", "function": "gan.wgan", "settings": {"latent": 4, "width": 2}}
FILE = "seed0/digits/predictions/plain/direct/small/few.parquet"
SETTINGS = {"steps": 3, "restarts": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("gan") / "mine.safetensors"
    network = wgan((1, 28, 28), **ENTRY["settings"])
    write_weights(path, network.state_dict(), {"settings": {}})
    return path


@pytest.fixture
def using(world, weights):
    with open_images(world.make("images/digits/few.h5")) as clean:
        return models.denoiser(weights, None, ENTRY, clean)


def test_it_denoises_no_image(using):
    assert not using.reconstructs
    images = torch.zeros(2, 1, 28, 28)
    for call in (
        using.denoise,
        using.error,
        using.injected()["denoise"],
        using.injected()["error"],
    ):
        with pytest.raises(BadInput, match="denoisers.mine: gan.wgan makes images of codes"):
            call(images)
    purify = models.purifier({"function": "basic.direct", "settings": {}}, using)
    with pytest.raises(BadInput, match="others need an autoencoder"):
        purify(images, Noise(0, range(2), "x"))


def test_the_training_stage_makes_one(world, tmp_path):
    file = "seed0/digits/denoisers/of_noise.safetensors"
    entry = world.settings(file)["denoiser"] | ENTRY
    training = {"function": "gan.wgan_gp", "settings": {"critic_steps": 1}, "epochs": 2}
    entry["training"] = entry["training"] | training
    entry["trained_on"] = [{"threat": "clean", "share": 1}]
    path = world.run(file, tmp_path / "mine.safetensors", {"denoiser": entry, "noises": {}})
    history = read_table(tmp_path / "mine.history.parquet", HISTORY).to_pandas()
    assert history["metric"].tolist() == ["distance"] * 2
    assert history[["value", "held_out_value"]].notna().all(axis=None)
    with open_images(world.make("images/digits/few.h5")) as clean:
        generate = models.denoiser(path, None, entry, clean).generate
    results = generate(torch.zeros(2, *generate.code_shape))
    assert results.shape == (2, 1, 28, 28) and not results.requires_grad and not generate.training


def test_its_purifier_is_judged_without_reconstruction_errors(world, weights, tmp_path):
    settings = world.settings(FILE)
    point = {"function": "gan.defense_gan", "settings": SETTINGS}
    purifier = {"name": "rival", "denoiser": "mine", "draws": 2, "points": {"default": point}}
    changes = {"purifier": purifier, "denoiser": {**settings["denoiser"], **ENTRY}}
    changes["threats"] = ["clean"]
    path = world.run(FILE, tmp_path / "a.parquet", changes, adversarial=[], denoiser=weights)
    result = read_table(path, PREDICTIONS).to_pandas()
    assert len(result) == 2 * 12 and result["error_before"].isna().all()
    assert result["error_after"].isna().all()
    with open_images(world.make("images/digits/few.h5")) as clean:
        generate = models.denoiser(weights, None, ENTRY, clean).generate
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
        for draw in range(2):
            noise = Noise(0, clean.ids, "rival", "defender", draw=draw)
            purified = defense_gan(images, generate, noise, **SETTINGS)
            expected = (purified - images).square().flatten(1).mean(1)
            part = result[result["draw"] == draw]
            assert np.allclose(part["mse_after"], expected, rtol=1e-4)


def test_attacks_that_know_its_purifier_go_through_the_generator(world, weights, tmp_path):
    file = "seed0/digits/adversarial/bim@small+direct/few.h5"
    settings = world.settings(file)
    point = {"function": "gan.defense_gan", "settings": SETTINGS}
    changes = {
        "denoiser": {**settings["denoiser"], **ENTRY},
        "purifier": {**settings["purifier"], "points": {"default": point}},
    }
    result = {}
    for through in ("identity", "full"):
        changes["attack"] = {**settings["attack"], "through": through}
        path = world.run(file, tmp_path / f"{through}.h5", changes, denoiser=weights)
        with open_hdf5(path, "adversarial") as stored:
            result[through] = stored["points/default/perturbation"][:]
        assert np.abs(result[through]).max() > 0.1
    assert not np.allclose(result["identity"], result["full"])
