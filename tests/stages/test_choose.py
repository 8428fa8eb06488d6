"""Choices against what each candidate would have given, and the jobs that use what was chosen."""

import json

import numpy as np
import pytest

from advdenoise.errors import BadInput
from advdenoise.graph.resolution import resolve
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.json_files import read_json
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import PREDICTIONS
from advdenoise.noise import Noise
from advdenoise.stages import choose, folded, models
from advdenoise.stages.data import open_images

NEAREST = "seed0/digits/chosen/nearest/small.json"
TUNED = "seed0/digits/chosen/tuned/small.json"
IMAGES = 24


@pytest.mark.parametrize("point", ["plain", "momentum"])
def test_an_attack_s_candidates_are_measured_as_attacks_with_them(world, point, tmp_path):
    value = read_json(world.make(NEAREST))
    (choice,) = (c for c in value["choices"] if c["point"] == point)
    file = "seed0/digits/adversarial/nearest@small/train.h5"
    settings = world.settings(file)
    means = []
    for candidate in choice["candidates"]:
        attack = json.loads(json.dumps(settings["attack"]))
        attack["points"] = {point: attack["points"][point]}
        attack["points"][point]["settings"][choice["setting"]] = candidate["value"]
        path = world.run(file, tmp_path / f"{len(means)}.h5", {"attack": attack})
        with open_hdf5(path) as perturbed:
            perturbation = perturbed[f"points/{point}/perturbation"][:IMAGES].astype(np.float64)
        means.append(255**2 * np.square(perturbation).mean())
        assert candidate["measures"]["MSE"]["mean"] == pytest.approx(means[-1], rel=1e-5)
        assert candidate["measures"]["MSE"]["images"] == IMAGES
    nearest = np.abs(np.array(means) - choice["wanted"]).argmin()
    assert choice["value"] == choice["candidates"][nearest]["value"]
    assert len(set(means)) > 2  # the candidates do differ


def test_a_purifier_s_candidates_are_judged_on_held_out_images(world, tmp_path):
    path = world.make(TUNED)
    value, (choice,) = read_json(path), read_json(path)["choices"]
    assert read_provenance(path)["settings"]["split"] == "held_out"
    bim = world.make("seed0/digits/adversarial/bim@small/held_out.h5")
    weights = world.make("seed0/digits/denoisers/of_noise.safetensors")
    entries = world.settings(TUNED)
    with (
        open_images(world.make("images/digits/held_out.h5")) as clean,
        open_hdf5(bim) as file,
    ):
        victim = world.make("seed0/digits/classifiers/small.safetensors")
        predict = folded.classifier(victim, entries["victim"], clean)
        using = models.denoiser(weights, None, entries["denoiser"], clean)
        batch = clean.batch(slice(0, IMAGES), models.device())
        added = batch.images.new_tensor(file["points/default/perturbation"][:IMAGES])
        for candidate in choice["candidates"]:
            settings = {"steps": 3, "rate": candidate["value"]}
            point = {"function": "tests.own_purifiers:descent", "settings": settings}
            purify = models.purifier(point, using)
            noise = Noise(0, batch.ids, "tuned")
            for name, shown in (("clean", batch.images), ("robust", batch.images + added)):
                right = (predict(purify(shown, noise)).argmax(1) == batch.labels).float().mean()
                measured = candidate["measures"][f"{name} accuracy"]
                assert measured["mean"] == pytest.approx(right.item())
            both = [candidate["measures"][f"{n} accuracy"]["mean"] for n in ("clean", "robust")]
            assert candidate["score"] == pytest.approx(np.mean(both))
    scores = [candidate["score"] for candidate in choice["candidates"]]
    assert choice["value"] == choice["candidates"][int(np.argmax(scores))]["value"]
    assert len(set(scores)) > 1 and value["images"] == IMAGES


def test_jobs_use_and_tell_what_was_chosen(world):
    path = world.make("seed0/digits/predictions/chosen/tuned/small/few.parquet")
    (choice,) = read_json(world.make(TUNED))["choices"]
    limits = {c["point"]: c for c in read_json(world.make(NEAREST))["choices"]}
    settings = read_provenance(path)["settings"]
    for point in ("a", "longer"):
        purifier = settings["purifier"]["points"][point]
        assert purifier["settings"]["rate"] == choice["value"]
        assert purifier["chosen"] == ["rate"]
    for points in (settings["attacks"]["nearest"]["points"], _stored_points(world)):
        for point, chosen in limits.items():
            assert points[point]["settings"][chosen["setting"]] == chosen["value"]
    assert len(read_table(path, PREDICTIONS)) == 12 * 3 * 2


def _stored_points(world) -> dict:
    with open_hdf5(world.make("seed0/digits/adversarial/nearest@small/few.h5")) as file:
        return {name: json.loads(group.attrs["entry"]) for name, group in file["points"].items()}


def test_another_choice_s_file_is_refused(world):
    settings = world.settings("seed0/digits/predictions/chosen/tuned/small/few.parquet")
    values = {path: read_json(path) for path in map(world.make, (TUNED, NEAREST))}
    resolve(settings, values)
    settings["purifier"]["points"]["a"]["settings"]["rate"]["choose"] = [0, 0.1]
    with pytest.raises(BadInput, match="small.json: holds no choice of 'rate' of tuned a"):
        resolve(settings, values)


def test_of_equal_candidates_the_first_is_chosen_and_nan_is_never_right(world, component):
    """A purifier that gives NaN classifies nothing rightly, whatever class 0 is."""

    def broken(images, *, rate: float):
        return images * float("nan") if rate == 2 else images

    component("purifiers", broken=broken)
    rule, options = world.options(TUNED, None)
    settings = options["settings"]
    choice = settings["choices"][0] | {"candidates": [2, 1, 3]}
    point = {"function": "toy.broken", "settings": {}}
    purifier = settings["purifier"] | {"points": {"a": point}}
    chosen = settings | {"choices": [choice], "purifier": purifier}
    output = world.root / "nan.json"
    choose.run(**options | {"settings": chosen, "output": output})
    (value,) = read_json(output)["choices"]
    assert [c["score"] > 0 for c in value["candidates"]] == [False, True, True]
    assert value["value"] == 1
