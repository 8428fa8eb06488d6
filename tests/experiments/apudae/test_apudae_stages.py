"""Gradient descent on the reconstruction error as the stages run it."""

import numpy as np
import pytest
import torch

from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import PREDICTIONS
from advdenoise.noise import Noise
from advdenoise.purifiers import apudae
from advdenoise.stages import models
from advdenoise.stages.data import open_images

WEIGHTS = "seed0/digits/denoisers/of_noise.safetensors"
CALIBRATION = "seed0/digits/denoisers/of_noise.calibration.json"
PREDICTED = "seed0/digits/predictions/plain/direct/small/few.parquet"
IMAGES = "images/digits/few.h5"
POINTS = {
    "a": {"function": "apudae.a", "settings": {"steps": 2}},
    "e": {"function": "apudae.e", "settings": {"steps": 4}},
    "f": {"function": "apudae.f", "settings": {"steps": 3}},
}


@pytest.fixture(scope="module")
def evaluated(world, tmp_path_factory):
    """The predictions behind three variants, in one purifier of two draws."""
    purifier = {"name": "adaptive", "points": POINTS, "draws": 2}
    output = tmp_path_factory.mktemp("evaluated") / "few.parquet"
    world.run(PREDICTED, output, {"purifier": purifier}, calibration=world.make(CALIBRATION))
    return read_table(output, PREDICTIONS).to_pandas()


def test_a_row_for_each_point_and_each_draw_of_those_that_draw(evaluated):
    clean = evaluated[evaluated.threat == "clean"]
    counts = clean.groupby("purifier_point")["draw"].nunique().to_dict()
    assert counts == {"a": 1, "e": 1, "f": 2} and len(clean) == 12 * 4
    drawn = clean[clean.purifier_point == "f"]
    first, second = (drawn[drawn.draw == n].error_after.to_numpy() for n in (0, 1))
    assert not np.array_equal(first, second)


def test_errors_after_are_those_of_the_component(world, evaluated):
    with open_images(world.make(IMAGES)) as clean:
        entry = world.settings(CALIBRATION)["denoiser"]
        using = models.denoiser(world.make(WEIGHTS), world.make(CALIBRATION), entry, clean)
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
        ids = clean.ids
    last = (evaluated.purifier_point != "f") | (evaluated.draw == 1)
    clean = evaluated[(evaluated.threat == "clean") & last].set_index("id")
    for row, number in enumerate(ids):
        image, rest = images[row : row + 1], using.calibration
        noise = Noise(0, [number], "adaptive", "defender", draw=1)
        purified = {
            "a": apudae.a(image, using.error, steps=2),
            "e": apudae.e(image, using.error, rest, steps=4),
            "f": apudae.f(image, using.error, rest, noise, steps=3),
        }
        rows = clean.loc[number].set_index("purifier_point")
        for point, result in purified.items():
            expected = using.error(result).item()
            assert rows.error_after[point] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("point", ["e", "f"])
def test_an_attacker_who_knows_it_goes_through_its_steps(world, tmp_path, point):
    """The attack's one step is the sign of the gradient of classifier and purifier together."""
    purifier = {"name": "adaptive", "points": {point: POINTS[point]}, "denoiser": "of_noise"}
    entry = world.settings(CALIBRATION)["denoiser"]
    fgsm = world.settings("seed0/digits/adversarial/fgsm@small/few.h5")["attack"]
    output = world.run(
        "seed0/digits/adversarial/fgsm@small/few.h5",
        tmp_path / "few.h5",
        {"purifier": purifier, "attack": {**fgsm, "through": "full"}, "denoiser": entry},
        denoiser=world.make(WEIGHTS),
        calibration=world.make(CALIBRATION),
    )
    with open_hdf5(output) as file:
        perturbation = torch.from_numpy(file["points/default/perturbation"][:])
    oblivious = world.make("seed0/digits/adversarial/fgsm@small/few.h5")
    with open_hdf5(oblivious) as file:
        other = torch.from_numpy(file["points/default/perturbation"][:])
    assert perturbation.isfinite().all() and perturbation.abs().max() <= 0.2 + 1e-6
    assert ((perturbation - other).abs() > 0.1).float().mean() > 0.02
