"""A handful of images with what became of them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.attributions import superpixels
from advdenoise.errors import BadInput
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import PREDICTIONS
from advdenoise.noise import Noise
from advdenoise.stages import examples, models
from advdenoise.stages.data import open_images

FILE = "seed0/digits/examples/{}/{}/small/few.h5"


def by_class(labels) -> list[int]:
    """Places of the first image of each class, then of the second of each, ..."""
    waiting, places = list(range(len(labels))), []
    while waiting:
        turn = {labels[place]: place for place in reversed(waiting)}
        places += [turn[label] for label in sorted(turn)]
        waiting = [place for place in waiting if place not in turn.values()]
    return places


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 40))
def test_classes_take_turns(labels, count):
    labels = np.array(labels, dtype=np.int64)
    assert examples.in_turn(labels, count).tolist() == by_class(labels)[:count]


def predictions_of(world, purifier: str, point: str):
    """What evaluation says of images attacked by one point of `cycled`."""
    path = world.make(f"seed0/digits/predictions/plain/{purifier}/small/few.parquet")
    result = read_table(path, PREDICTIONS).to_pandas()
    return result[(result["threat"] == "cycled@small") & (result["attack_point"] == point)]


def test_images_are_shown_as_they_are_attacked_and_purified(world):
    path = world.make(FILE.format("cycled@small", "direct"))
    with (
        open_images(world.make("images/digits/few.h5")) as clean,
        open_hdf5(world.make("seed0/digits/adversarial/cycled@small/few.h5")) as attacked,
        open_hdf5(path, "examples") as file,
    ):
        assert json.loads(file.attrs["classes"]) == clean.classes
        shown = by_class(clean.labels)[:5]
        assert np.array_equal(file["ids"][:], clean.ids[shown])
        assert np.array_equal(file["labels"][:], clean.labels[shown])
        images = clean.stored[:][shown] / np.float32(255)
        assert np.allclose(file["images"][:], images, atol=1e-7)
        assert set(file) == {"ids", "labels", "images", "fgsm", "pgd"}
        for point in ("fgsm", "pgd"):
            group = file[f"{point}/default"]
            inputs = images + attacked[f"points/{point}/perturbation"][:][shown]
            assert np.allclose(group["seen"][:], inputs, atol=1e-6)
            assert group["purified"].shape == images.shape
            rows = predictions_of(world, "direct", point).iloc[shown]
            assert np.array_equal(group["prediction"][:], rows["prediction"])
            assert np.allclose(group["confidence"][:], rows["confidence"], atol=1e-5)
            unpurified = predictions_of(world, "none", point).iloc[shown]
            shares = group["seen_probabilities"][:]
            assert np.array_equal(shares.argmax(1), unpurified["prediction"])
            assert np.allclose(shares.max(1), unpurified["confidence"], atol=1e-5)
            assert np.allclose(shares.sum(1), 1, atol=1e-5)
            change = ((group["purified"][:] - images) ** 2).mean((1, 2, 3))
            assert np.allclose(change, rows["mse_after"], rtol=1e-4)
    assert read_provenance(path)["settings"]["threat"] == "cycled@small"


def test_clean_images_without_a_purifier_stay_what_they_are(world):
    with open_hdf5(world.make(FILE.format("clean", "none"))) as file:
        group = file["default/default"]
        assert np.array_equal(group["seen"][:], file["images"][:])
        assert np.array_equal(group["purified"][:], file["images"][:])


def test_a_split_with_fewer_images_gives_what_it_has(world, tmp_path):
    path = world.run(FILE.format("clean", "none"), tmp_path / "x.h5", {"images": 100})
    with open_hdf5(path) as file:
        assert len(file["images"]) == len(file["default/default/prediction"]) == 12


def test_every_point_of_a_purifier_is_shown_with_the_defenders_draws(world, component, tmp_path):
    component("purifiers", noisy=lambda images, noise: images + noise.normal(images, 0.1))
    purifier = world.settings(FILE.format("clean", "none"))["purifier"]
    toy = {"function": "toy.noisy", "settings": {}}
    purifier["points"] = {"one": toy, "two": toy}
    path = world.run(FILE.format("clean", "none"), tmp_path / "x.h5", {"purifier": purifier})
    with open_hdf5(path) as file:
        images = torch.from_numpy(file["images"][:])
        expected = images + Noise(0, file["ids"][:], "none", "defender").normal(images, 0.1)
        for point in ("one", "two"):
            assert np.allclose(file[f"default/{point}/purified"][:], expected, atol=1e-6)


def test_superpixels_are_those_of_the_normalised_images(world):
    path = world.make(FILE.format("clean", "none"))
    with open_hdf5(path) as file:
        result = file["superpixels"]
        assert {name: set(group) for name, group in result.items()} == {
            "blocks": {"n6", "n12"},
            "inverted": {"default"},
        }
        for name, count in (("blocks/n6", 6), ("blocks/n12", 12), ("inverted/default", 16)):
            assert result[name].shape == (5, 28, 28)
            for labels, image in zip(result[name][:], file["images"][:], strict=True):
                normalised = (np.moveaxis(image, 0, -1) - 0.2) / 0.4
                assert np.array_equal(labels, superpixels.slic(normalised, n_segments=count))
    entries = read_provenance(path)["settings"]["superpixels"]
    assert entries["blocks"]["points"]["n6"]["settings"] == {"n_segments": 6}


def test_superpixels_are_asked_for_of_untouched_images_alone(world):
    for threat, purifier in (("fgsm@small", "none"), ("clean", "direct")):
        assert world.settings(FILE.format(threat, purifier))["superpixels"] == {}


def test_the_target_of_an_attack_is_told(world):
    with open_hdf5(world.make(FILE.format("aimed@small", "none"))) as file:
        assert file.attrs["target"] == 0
    with open_hdf5(world.make(FILE.format("fgsm@small", "none"))) as file:
        assert "target" not in file.attrs


def test_maps_are_those_of_the_channels_that_the_attack_changes_most(world):
    path = world.make(FILE.format("cycled@small", "direct"))
    with open_hdf5(path) as file, open_images(world.make("images/digits/few.h5")) as clean:
        network = models.load_frozen(
            "classifiers",
            world.make("seed0/digits/classifiers/small.safetensors"),
            world.settings(FILE.format("cycled@small", "direct"))["classifier"],
            clean,
        )
        assert set(file["pgd/default/maps"]) == {"layers.0", "layers.2"}
        for layer, channels in (("layers.0", 4), ("layers.2", 4)):
            group = file[f"pgd/default/maps/{layer}"]
            part = network.layers[: int(layer[-1]) + 1]
            given = {"clean": file["images"][:]} | {
                name: file[f"pgd/default/{name}"][:] for name in ("seen", "purified")
            }
            with torch.no_grad():
                maps = {k: part(network.normalise(torch.from_numpy(v))) for k, v in given.items()}
            change = (maps["seen"] - maps["clean"]).square().sum((2, 3)).numpy()
            assert group["channels"].shape == (5, channels)
            for place, order in enumerate(group["channels"][:]):
                assert sorted(order) == list(range(channels))
                assert (np.diff(change[place][order]) <= 1e-5).all()
                for name, result in maps.items():
                    stored = group[name][place]
                    assert np.allclose(stored, result[place][order], atol=1e-4)


def test_maps_are_asked_for_of_attacked_images_and_their_classifier_alone(world):
    file = "seed0/digits/examples/{}/none/{}/few.h5"
    for threat, classifier, modules in (
        ("clean", "small", []),
        ("fgsm@other", "other", []),
        ("fgsm@small", "small", ["layers.0", "layers.2"]),
    ):
        assert world.settings(file.format(threat, classifier))["maps"] == modules


def test_a_module_without_maps_is_told(world, tmp_path):
    file = FILE.format("fgsm@small", "none")
    for module, message in (
        ("layers.7", "gives no maps but an output of shape"),
        ("layers.", "no mod"),
    ):
        with pytest.raises(BadInput, match=rf"examples\.maps: .*{message}"):
            world.run(file, tmp_path / "x.h5", {"maps": [module]})
    assert not list(tmp_path.iterdir())
