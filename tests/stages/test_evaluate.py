"""Predictions: every column against a count by hand, image by image."""

import numpy as np
import pytest
import torch

from advdenoise.errors import BadInput
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import FACTS, PREDICTIONS
from advdenoise.noise import Noise
from advdenoise.stages import models
from advdenoise.stages.data import open_images

FILE = "seed0/digits/predictions/plain/{}/small/few.parquet"
RECORDED = ["fooled_at", "fooled_last", "loss_start", "loss_best", "loss_recent"]
COUNTED = ["zero_gradients", "bad_gradients", "forward", "backward"]
ADVERSARIAL = "seed0/digits/adversarial/{}/few.h5"


def rows(path):
    return read_table(path, PREDICTIONS).to_pandas()


@pytest.fixture(scope="module")
def by_hand(world):
    """The rows of one purifier's file, one image at a time through the unfolded network."""

    def experiment(purifier: str) -> dict:
        settings = world.settings(FILE.format(purifier))
        path = world.make("images/digits/few.h5")
        weights = "seed0/digits/classifiers/small.safetensors"
        results = {}
        with open_images(path) as clean:
            network = models.load_frozen(
                "classifiers", world.make(weights), settings["classifier"], clean
            )
            denoise = None
            if settings["denoiser"]:
                denoise = models.load_frozen(
                    "denoisers",
                    world.make("seed0/digits/denoisers/of_noise.safetensors"),
                    settings["denoiser"],
                    clean,
                )
            pixels = torch.from_numpy(clean.stored[:] / np.float32(255))
            labels, ids = clean.labels, clean.ids
        for threat, point, perturbation, epsilon in perturbations(world, settings["threats"]):
            for place, image in enumerate(pixels):
                inputs = image if perturbation is None else image + perturbation[place]
                results[threat, point, int(ids[place])] = finite_logits(
                    image, inputs, labels[place], network, denoise
                ) | {"epsilon": np.nan if epsilon is None else epsilon[place]}
        return results

    return experiment


def perturbations(world, threats):
    for threat in threats:
        if threat == "clean":
            yield threat, "default", None, None
            continue
        with open_hdf5(world.make(ADVERSARIAL.format(threat))) as file:
            for point, group in file["points"].items():
                yield threat, point, torch.from_numpy(group["perturbation"][:]), group["epsilon"][:]


@torch.no_grad()
def finite_logits(image, inputs, label, network, denoise) -> dict:
    def error(x):
        return float(((x.double() - denoise(x[None])[0].double()) ** 2).sum())

    purified = denoise(inputs[None])[0].clamp(0, 1) if denoise else inputs
    logits = network(purified[None])[0].double().numpy()
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    change = (inputs - image).double().numpy()
    after = (purified - image).double().numpy()
    return {
        "label": label,
        "prediction": int(np.argmax(logits)),
        "confidence": shares.max(),
        "label_rank": list(np.argsort(-logits)).index(label),
        "mse_before": (change**2).mean(),
        "mse_after": (after**2).mean(),
        "l2": np.sqrt((change**2).sum()),
        "linf": np.abs(change).max(),
        "error_before": error(inputs) if denoise else np.nan,
        "error_after": error(purified) if denoise else np.nan,
    }


@pytest.mark.parametrize("purifier", ["none", "direct"])
def test_every_column_by_hand(world, by_hand, purifier):
    results = rows(world.make(FILE.format(purifier)))
    expected = by_hand(purifier)
    assert len(results) == len(expected) == 12 * 4
    assert set(results["purifier"]) == {purifier} and set(results["purifier_point"]) == {"default"}
    assert set(results["draw"]) == {0}
    for row in results.to_dict("records"):
        wanted = expected[row["threat"], row["attack_point"], row["id"]]
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=2e-4, abs=1e-6, nan_ok=True), (name, row)


def test_what_the_attack_tells_of_an_image_is_in_its_rows(world, component, tmp_path):
    component("attacks", telling=telling)
    file = ADVERSARIAL.format("fgsm@small")
    entry = world.settings(file)["attack"]
    entry["points"]["default"]["function"] = "toy.telling"
    told = world.run(file, tmp_path / "told.h5", {"attack": entry})
    component("attacks", silent=lambda images, predict: 0 * predict(images).sum() * images)
    file = ADVERSARIAL.format("cycled@small")
    entry = world.settings(file)["attack"]
    for point in entry["points"].values():
        point.update(function="toy.silent", settings={})
        point.pop("epsilons", None)
    silent = world.run(file, tmp_path / "silent.h5", {"attack": entry})
    path = world.run(FILE.format("none"), tmp_path / "told.parquet", adversarial=[told, silent])
    found = rows(path)
    clean, own, others = (
        found[found["threat"] == t].sort_values("id")
        for t in ("clean", "fgsm@small", "cycled@small")
    )
    assert clean[FACTS.names].isna().all(axis=None)
    assert others[RECORDED].isna().all(axis=None) and not others["skipped"].any()
    assert (others["forward"] == 1).all() and (others["backward"] == 0).all()
    assert (others["zero_gradients"] == 0).all() and (others["bad_gradients"] == 0).all()
    with open_hdf5(told, "adversarial") as stored:
        ids, group = stored["ids"][:], stored["points/default"]
        order = np.argsort(ids)
        for name in (*RECORDED, *COUNTED):
            assert np.array_equal(group[name][:][order], own[name].to_numpy()), name
        assert group["fooled_last"].dtype == np.uint8 and group["fooled_at"].dtype == np.int16
        assert group.attrs["attack_seconds"] > 0 and group.attrs["peak_bytes"] > 1e6
    assert set(own["fooled_at"]) == {1, -1} and set(own["fooled_last"]) == {True, False}
    assert (own["forward"] == 2).all() and (own["backward"] == 0).all()
    assert own.sort_index()["loss_best"].tolist() == [*range(8), *range(4)]  # batches of 8


def telling(images, predict, facts, *, epsilon):
    """Two passes; every other image is fooled in the second, and its loss is its place."""
    place = torch.arange(len(images), dtype=images.dtype)
    for step in range(2):
        predict(images)
        facts.record(step, 1, step * place, (place % 2) * step, final=step == 1)
    return torch.zeros_like(images)


def test_no_purifier_changes_nothing(world):
    results = rows(world.make(FILE.format("none")))
    assert np.array_equal(results["mse_before"], results["mse_after"])
    clean = results[results["threat"] == "clean"]
    assert (clean["mse_before"] == 0).all() and (clean["linf"] == 0).all()
    assert clean["epsilon"].isna().all() and results["error_before"].isna().all()


def test_adversarial_rows_agree_with_the_attackers_success(world):
    results = rows(world.make(FILE.format("none")))
    for threat, point in (("fgsm@small", "default"), ("cycled@small", "pgd")):
        part = results[(results["threat"] == threat) & (results["attack_point"] == point)]
        with open_hdf5(world.make(ADVERSARIAL.format(threat))) as file:
            success = file[f"points/{point}/success"][:].astype(bool)
            assert np.array_equal(part["id"], file["ids"][:])
        assert np.array_equal(part["prediction"] != part["label"], success)


def test_the_file_says_what_made_it(world):
    path = world.make(FILE.format("direct"))
    settings = read_provenance(path)["settings"]
    written = {"classes": 10, "ids": settings["ids"]}
    assert settings == world.settings(FILE.format("direct")) | written
    assert set(settings["attacks"]) == {"fgsm", "cycled"}
    assert settings["denoiser"]["name"] == "of_noise"


def test_threats_stand_in_the_order_of_the_suite(world):
    results = rows(world.make(FILE.format("none")))
    first = results[results["id"] == results["id"][0]]
    assert list(zip(first["threat"], first["attack_point"], strict=True)) == [
        ("clean", "default"),
        ("fgsm@small", "default"),
        ("cycled@small", "fgsm"),
        ("cycled@small", "pgd"),
    ]


def test_under_an_adaptive_threat_the_purifier_meets_its_own_images(world):
    results = rows(world.make("seed0/digits/predictions/adaptive/direct/small/few.parquet"))
    assert set(results["threat"]) == {"clean", "bim@small+direct"}


def test_a_random_purifier_is_drawn_again_and_every_point_is_judged(world, component, tmp_path):
    def noisy(images, noise, *, std):
        return (images + noise.normal(images, std)).clamp(0, 1)

    component("purifiers", noisy=noisy)
    purifier = world.settings(FILE.format("none"))["purifier"] | {"draws": 3}
    purifier["points"] = {
        name: {"function": "toy.noisy", "settings": {"std": std}}
        for name, std in (("weak", 0.1), ("strong", 0.4))
    }
    changes = {"purifier": purifier, "threats": ["clean"]}
    path = world.run(FILE.format("none"), tmp_path / "a.parquet", changes, adversarial=[])
    results = rows(path)
    assert len(results) == 12 * 2 * 3
    for point, std in (("weak", 0.1), ("strong", 0.4)):
        for draw in range(3):
            part = results[(results["purifier_point"] == point) & (results["draw"] == draw)]
            with open_images(world.make("images/digits/few.h5")) as clean:
                images = torch.from_numpy(clean.stored[:] / np.float32(255))
                noise = Noise(0, clean.ids, "none", "defender", draw=draw)
            expected = (noisy(images, noise, std=std) - images).square().flatten(1).mean(1)
            assert np.allclose(part["mse_after"], expected, rtol=1e-4)
    other = world.run(
        FILE.format("none"), tmp_path / "b.parquet", changes | {"batch": 5}, adversarial=[]
    )
    keys = ["id", "purifier_point", "draw"]
    again = rows(other).sort_values(keys)
    assert np.allclose(results.sort_values(keys)["mse_after"], again["mse_after"], rtol=1e-6)


def test_a_point_that_draws_nothing_is_judged_once(world, component, tmp_path):
    def noisy(images, noise):
        return (images + noise.normal(images, 0.1)).clamp(0, 1)

    def darker(images):
        return images / 2

    component("purifiers", noisy=noisy, darker=darker)
    purifier = world.settings(FILE.format("none"))["purifier"] | {"draws": 3}
    purifier["points"] = {
        name: {"function": f"toy.{name}", "settings": {}} for name in ("noisy", "darker")
    }
    changes = {"purifier": purifier, "threats": ["clean"]}
    results = rows(world.run(FILE.format("none"), tmp_path / "a.parquet", changes, adversarial=[]))
    draws = results.groupby("purifier_point")["draw"].agg(["count", "max"])
    assert draws.loc["noisy"].tolist() == [36, 2] and draws.loc["darker"].tolist() == [12, 0]


def test_a_purifier_may_take_gradients_of_its_own(world, component, tmp_path):
    """Purification by descending the reconstruction error needs them while predicting."""

    def descend(images, error):
        with torch.enable_grad():
            images = images.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(error(images).sum(), images)
        return (images.detach() - 0.05 * gradient.sign()).clamp(0, 1)

    component("purifiers", descend=descend)
    purifier = world.settings(FILE.format("direct"))["purifier"]
    purifier["points"]["default"]["function"] = "toy.descend"
    changes = {"purifier": purifier}
    results = rows(world.run(FILE.format("direct"), tmp_path / "a.parquet", changes))
    assert (results["error_after"] < results["error_before"]).mean() > 0.9


def test_an_adversarial_set_of_other_images_is_refused(world, tmp_path):
    other = world.make("seed0/digits/adversarial/fgsm@small/test.h5")
    experiment = [other, world.make(ADVERSARIAL.format("cycled@small"))]
    with pytest.raises(BadInput, match=r"fgsm@small/test\.h5 was made from other images"):
        world.run(FILE.format("none"), tmp_path / "a.parquet", adversarial=experiment)
    assert not list(tmp_path.iterdir())


def test_adversarial_sets_in_another_order_are_those_of_their_threats(world, tmp_path):
    sets = world.options(FILE.format("none"), tmp_path / "a.parquet")[1]["adversarial"]
    assert len(sets) > 1
    result = world.run(FILE.format("none"), tmp_path / "a.parquet", adversarial=sets[::-1])
    assert rows(result).equals(rows(world.make(FILE.format("none"))))


@pytest.mark.parametrize(
    ("kept", "reason"),
    [([0, 0], "holds fgsm@small, where .* is needed"), ([0], "adversarial: no file holds")],
)
def test_adversarial_sets_of_other_threats_are_told(world, tmp_path, kept, reason):
    sets = world.options(FILE.format("none"), tmp_path / "a.parquet")[1]["adversarial"]
    paths = [sets[place] for place in kept]
    with pytest.raises(BadInput, match=reason):
        world.run(FILE.format("none"), tmp_path / "a.parquet", adversarial=paths)
