"""The search for limits: one run tells what each limit would have given."""

import numpy as np
import pytest

from scripts.advdenoise import store
from scripts.advdenoise.schemas import LIMITS

FILE = "seed0/digits/limits/{}/few.parquet"
FEW = "seed0/digits/adversarial/{}/few.h5"


def found(path):
    return store.read_table(path, LIMITS).to_pandas()


@pytest.mark.parametrize("threat", ["searched@small", "stepped@small"])
def test_each_limit_s_rows_are_those_of_an_attack_with_it(world, threat, tmp_path):
    rows = found(world.make(FILE.format(threat)))
    attack = world.settings(FEW.format(threat))["attack"]
    assert set(rows["attack_point"]) == set(attack["points"])
    for steps in (0, 1, 3, 24):
        for point in attack["points"].values():
            point["settings"]["steps"] = steps
        path = world.run(FEW.format(threat), tmp_path / f"{steps}.h5", {"attack": attack})
        with store.open_hdf5(path) as file:
            for name in attack["points"]:
                made = file[f"points/{name}/perturbation"][:10]
                own = rows[(rows["attack_point"] == name) & (rows["steps"] == steps)]
                assert np.array_equal(own["id"], file["ids"][:10])
                expected = np.square(made.astype(np.float64)).mean((1, 2, 3))
                assert np.allclose(own["mse"], expected, rtol=1e-5, atol=1e-10)
                assert steps == 0 or expected.any()


def test_as_many_images_and_limits_as_asked_for(world):
    rows = found(world.make(FILE.format("searched@small")))
    assert len(rows) == 10 * 25 and rows["mse"].notna().all()
    assert list(rows["steps"].unique()) == list(range(25))
    # Early ones are done before the largest limit, which changes nothing for them any more.
    last = rows[rows["steps"] == 24].set_index("id")["mse"]
    before = rows[rows["steps"] == 23].set_index("id")["mse"]
    assert (last == before).any()


def test_the_limit_in_force_is_not_part_of_the_search(world):
    """Writing what was found into the configuration makes no search anew."""
    settings = world.settings(FILE.format("stepped@small"))
    steps = {p["settings"]["steps"] for p in settings["attack"]["points"].values()}
    assert steps == {24} and settings["images"] == 10
    assert settings["attacks"] == {"stepped": settings["attack"]}
