"""A handful of images with what became of them."""

import json

import numpy as np
import torch

from scripts.advdenoise import store
from scripts.advdenoise.noise import Noise
from scripts.advdenoise.schemas import PREDICTIONS
from scripts.advdenoise.stages.data import open_images

FILE = "seed0/digits/examples/{}/{}/small/few.h5"


def test_images_are_shown_as_they_are_attacked_and_purified(world):
    path = world.make(FILE.format("cycled@small", "direct"))
    predictions = store.read_table(
        world.make("seed0/digits/predictions/plain/direct/small/few.parquet"), PREDICTIONS
    ).to_pandas()
    with (
        open_images(world.make("images/digits/few.h5")) as clean,
        store.open_hdf5(world.make("seed0/digits/adversarial/cycled@small/few.h5")) as attacked,
        store.open_hdf5(path, "examples") as file,
    ):
        assert json.loads(file.attrs["classes"]) == clean.classes
        assert np.array_equal(file["ids"][:], clean.ids[:5])
        assert np.array_equal(file["labels"][:], clean.labels[:5])
        images = clean.stored[:5] / np.float32(255)
        assert np.allclose(file["images"][:], images, atol=1e-7)
        assert set(file) == {"ids", "labels", "images", "fgsm", "pgd"}
        for point in ("fgsm", "pgd"):
            group = file[f"{point}/default"]
            seen = images + attacked[f"points/{point}/perturbation"][:5]
            assert np.allclose(group["seen"][:], seen, atol=1e-6)
            assert group["purified"].shape == images.shape
            rows = predictions[
                (predictions["threat"] == "cycled@small") & (predictions["attack_point"] == point)
            ].head(5)
            assert np.array_equal(group["prediction"][:], rows["prediction"])
            assert np.allclose(group["confidence"][:], rows["confidence"], atol=1e-5)
            change = ((group["purified"][:] - images) ** 2).mean((1, 2, 3))
            assert np.allclose(change, rows["mse_after"], rtol=1e-4)
    assert store.read_provenance(path)["settings"]["threat"] == "cycled@small"


def test_clean_images_without_a_purifier_stay_what_they_are(world):
    with store.open_hdf5(world.make(FILE.format("clean", "none"))) as file:
        group = file["default/default"]
        assert np.array_equal(group["seen"][:], file["images"][:])
        assert np.array_equal(group["purified"][:], file["images"][:])


def test_a_split_with_fewer_images_gives_what_it_has(world, tmp_path):
    path = world.run(FILE.format("clean", "none"), tmp_path / "x.h5", {"images": 100})
    with store.open_hdf5(path) as file:
        assert len(file["images"]) == len(file["default/default/prediction"]) == 12


def test_every_point_of_a_purifier_is_shown_with_the_defenders_draws(world, component, tmp_path):
    component("purifiers", noisy=lambda images, noise: images + noise.normal(images, 0.1))
    purifier = world.settings(FILE.format("clean", "none"))["purifier"]
    toy = {"function": "toy.noisy", "settings": {}}
    purifier["points"] = {"one": toy, "two": toy}
    path = world.run(FILE.format("clean", "none"), tmp_path / "x.h5", {"purifier": purifier})
    with store.open_hdf5(path) as file:
        images = torch.from_numpy(file["images"][:])
        expected = images + Noise(0, file["ids"][:], "none", "defender").normal(images, 0.1)
        for point in ("one", "two"):
            assert np.allclose(file[f"default/{point}/purified"][:], expected, atol=1e-6)
