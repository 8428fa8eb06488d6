"""Layer-wise distances: the columns against maps that are compared by hand."""

import itertools

import numpy as np
import torch

from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import DISTANCES
from advdenoise.stages import distances as stage
from advdenoise.stages import models
from advdenoise.stages.data import open_images

PLAIN = "seed0/digits/distances/plain/small/few.parquet"
ADAPTIVE = "seed0/digits/distances/adaptive/small/few.parquet"
WEIGHTS = "seed0/digits/{}/{}.safetensors"
TAPS = ["layers.0", "layers.6", "layers.9"]


def rows(path):
    return read_table(path, DISTANCES).to_pandas()


@torch.no_grad()
def maps(network, images):
    """The tapped maps, by running the network's layers one after another."""
    values, results = network.normalise(images), []
    for place, layer in enumerate(network.layers):
        values = layer(values.clone())
        if f"layers.{place}" in TAPS:
            results.append(values.flatten(1).double().numpy().copy())
    return results


def test_every_column_by_hand(world):
    results = rows(world.make(PLAIN))
    settings = world.settings(PLAIN)
    with open_images(world.make("images/digits/few.h5")) as clean:
        network = models.load_frozen(
            "classifiers",
            world.make(WEIGHTS.format("classifiers", "small")),
            settings["classifier"],
            clean,
        )
        entry = settings["purifiers"][1]["denoiser_entry"]
        weights = world.make(WEIGHTS.format("denoisers", "of_noise"))
        denoise = models.load_frozen("denoisers", weights, entry, clean)
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
    with open_hdf5(world.make("seed0/digits/adversarial/cycled@small/few.h5")) as file:
        attacked = images + torch.from_numpy(file["points/pgd/perturbation"][:])
    with torch.no_grad():
        purified = denoise(attacked).clamp(0, 1)
    for purifier, inputs in (("none", attacked), ("direct", purified)):
        pairs = zip(TAPS, maps(network, images), maps(network, inputs), strict=True)
        for index, (layer, a, b) in enumerate(pairs):
            part = results[
                (results["threat"] == "cycled@small")
                & (results["attack_point"] == "pgd")
                & (results["purifier"] == purifier)
                & (results["layer_index"] == index)
            ]
            assert list(part["layer"]) == [layer] * 12
            raw, elements = np.sqrt(((a - b) ** 2).sum(1)), a.shape[1]
            assert np.allclose(part["ne_d_raw"], raw / elements, rtol=1e-3)
            if index < len(TAPS) - 1:  # all but the logits are seen after ReLU
                a, b = a.clip(0), b.clip(0)
            l2 = np.sqrt(((a - b) ** 2).sum(1))
            cosine = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
            assert set(part["elements"]) == {elements}
            assert np.allclose(part["l2"], l2, rtol=1e-3)
            assert np.allclose(part["ne_d"], l2 / elements, rtol=1e-3)
            assert np.allclose(part["ne_d_sqrt"], l2 / elements**0.5, rtol=1e-3)
            assert np.allclose(part["cos_d"], 1 - cosine, atol=1e-5)


def test_every_threat_meets_every_purifier_of_an_oblivious_suite(world):
    results = rows(world.make(PLAIN))
    threats = [
        ("clean", "default"),
        ("fgsm@small", "default"),
        ("cycled@small", "fgsm"),
        ("cycled@small", "pgd"),
    ]
    expected = set(itertools.product(threats, ("none", "direct"), range(3)))
    groups = results.groupby(["threat", "attack_point", "purifier", "layer_index"]).size()
    assert {((t, p), purifier, layer) for t, p, purifier, layer in groups.index} == expected
    assert set(groups) == {12}


def test_a_clean_image_has_no_distance_to_itself(world):
    results = rows(world.make(PLAIN))
    itself = results[(results["threat"] == "clean") & (results["purifier"] == "none")]
    assert (itself[["l2", "ne_d", "ne_d_sqrt", "cos_d"]] == 0).all(axis=None)
    purified = results[(results["threat"] == "clean") & (results["purifier"] == "direct")]
    assert (purified["l2"] > 0).all()


def test_under_an_adaptive_suite_a_purifier_meets_only_its_own_images(world):
    results = rows(world.make(ADAPTIVE))
    assert {(t, p) for t, p in zip(results["threat"], results["purifier"], strict=True)} == {
        ("clean", "none"),
        ("clean", "direct"),
        ("clean", "adversarially"),
        ("bim@small", "none"),
        ("bim@small+direct", "direct"),
        ("bim@small+adversarially", "adversarially"),
    }


def test_only_the_first_images_are_observed(world, tmp_path):
    all_of_them = rows(world.make(ADAPTIVE))
    few = rows(world.run(ADAPTIVE, tmp_path / "few.parquet", {"images": 5}))
    with open_images(world.make("images/digits/few.h5")) as clean:
        assert set(few["id"]) == set(clean.ids[:5])
    part = all_of_them[all_of_them["id"].isin(few["id"])]
    keys = ["threat", "purifier", "layer_index", "id"]
    part, few = part.sort_values(keys), few.sort_values(keys)
    assert np.allclose(part["l2"], few["l2"], rtol=1e-4, atol=1e-6)


def test_post_relu_changes_what_is_negative_but_for_the_logits(world, tmp_path):
    """Layer 0 is a convolution, layer 6 follows a ReLU, layer 9 gives the logits."""
    after = rows(world.make(ADAPTIVE))
    plain = rows(world.run(ADAPTIVE, tmp_path / "plain.parquet", {"post_relu": False}))
    assert np.array_equal(after["ne_d_raw"], plain["ne_d"])
    assert np.array_equal(after["cos_d_raw"], plain["cos_d_raw"])
    assert list(plain["layer"]) == list(after["layer"]) and (after["l2"] <= plain["l2"]).all()
    changed = (plain["l2"] != after["l2"]).groupby(plain["layer_index"]).any()
    assert list(changed) == [True, False, False]


def test_sets_in_another_order_are_those_of_their_threats(world, tmp_path):
    sets = world.options(ADAPTIVE, tmp_path / "x.parquet")[1]["adversarial"]
    assert len(sets) > 1
    result = rows(world.run(ADAPTIVE, tmp_path / "x.parquet", adversarial=sets[::-1]))
    assert result.equals(rows(world.make(ADAPTIVE)))


def test_a_purifier_may_take_gradients_of_its_own(world, component, tmp_path):
    def descend(images, error):
        with torch.enable_grad():
            images = images.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(error(images).sum(), images)
        return (images.detach() - 0.01 * gradient.sign()).clamp(0, 1)

    component("purifiers", descend=descend)
    purifiers = world.settings(ADAPTIVE)["purifiers"]
    purifiers[1]["points"]["default"]["function"] = "toy.descend"
    results = rows(world.run(ADAPTIVE, tmp_path / "a.parquet", {"purifiers": purifiers}))
    assert np.isfinite(results["l2"]).all()


def test_passes_are_in_full_float32(world, monkeypatch, tmp_path, with_tf32):
    """Whatever the default: no TF32 while layers are observed, and the default afterwards."""
    observe, precisions = stage._observed, set()

    def look(*inputs):
        precisions.update(with_tf32())
        return observe(*inputs)

    monkeypatch.setattr(stage, "_observed", look)
    world.run(PLAIN, tmp_path / "x.parquet")
    assert precisions == {False} and with_tf32() == [True, True]
