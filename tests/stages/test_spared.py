"""Attacks that leave alone what others have fooled: the same worst case, image by image."""

import numpy as np
import pyarrow as pa
import pytest

from advdenoise.errors import DamagedFile
from advdenoise.io.contents import check_rows
from advdenoise.io.hdf5 import create_hdf5, open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import PREDICTIONS
from advdenoise.reporting.correct import is_skipped
from advdenoise.reporting.read import read
from advdenoise.reporting.tables import accuracy

PREDICTED = "seed0/digits/predictions/{}/{}/small/test.parquet"
ADVERSARIAL = "seed0/digits/adversarial/{}@small/test.h5"
MEASURES = ["confidence", "label_rank", "mse_before", "mse_after", "l2", "linf"]


def worst(frame) -> dict[tuple[str, int], bool]:
    """Whether each image is right under every threat that it was judged under, by purifier."""
    frame = frame[~is_skipped(frame)]
    hits = frame["prediction"] == frame["label"]
    return hits.groupby([frame["purifier"], frame["id"]]).min().to_dict()


@pytest.mark.parametrize("purifier", ["none", "direct"])
def test_the_worst_case_is_that_of_separate_jobs(world, purifier):
    paths = {
        suite: world.make(PREDICTED.format(suite, purifier)) for suite in ("sparing", "separate")
    }
    results = {suite: read([path], PREDICTIONS) for suite, path in paths.items()}
    sparing, separate = (worst(results[suite].frame) for suite in ("sparing", "separate"))
    assert sparing == separate and len(sparing) == 20 and len(set(sparing.values())) == 2
    tables = {suite: accuracy.worst_case(result) for suite, result in results.items()}
    estimates = [[cell.estimate for cell in cells] for cells in tables.values()]
    assert estimates[0] == estimates[1]
    assert is_skipped(results["sparing"].frame).any()


def test_rows_of_spared_images_have_no_prediction(world):
    table = read_table(world.make(PREDICTED.format("sparing", "none")), PREDICTIONS)
    rows = table.to_pandas()
    skipped = rows["skipped"] == True  # noqa: E712, a column with nulls
    assert 0 < skipped.sum() < 20 and set(rows["threat"][skipped]) == {"spared@small"}
    assert rows.loc[skipped, ["prediction", *MEASURES]].isna().all(axis=None)
    assert rows.loc[~skipped, ["prediction", *MEASURES]].notna().all(axis=None)
    weak = rows[rows["threat"] == "weak@small"].set_index("id")
    fooled = {*weak.index[weak["prediction"] != weak["label"]]}
    assert {*rows["id"][skipped]} == fooled


def test_a_spared_image_stays_as_it_is_and_others_are_attacked_alike(world):
    with (
        open_hdf5(world.make(ADVERSARIAL.format("spared")), "adversarial") as own,
        open_hdf5(world.make(ADVERSARIAL.format("whole")), "adversarial") as whole,
    ):
        group, other = own["points/default"], whole["points/default"]
        skipped = group["skipped"][:].astype(bool)
        assert not group["perturbation"][:][skipped].any()
        passes = np.where(skipped, 0, other["forward"][:])
        assert np.array_equal(group["forward"][:], passes) and other["forward"][:].min() >= 5
        difference = group["perturbation"][:][~skipped] - other["perturbation"][:][~skipped]
        assert (np.abs(difference) < 1e-6).mean() > 0.999
        assert np.array_equal(group["success"][:][~skipped], other["success"][:][~skipped])


def test_all_images_may_be_spared(world, tmp_path):
    file = ADVERSARIAL.format("weak")
    weak = world.run(file, tmp_path / "weak.h5")
    with create_hdf5(tmp_path / "all.h5", read_provenance(weak), "adversarial") as copy:
        with open_hdf5(weak, "adversarial") as stored:
            copy.attrs["threat"] = stored.attrs["threat"]
            for name in ("ids", "labels", "points"):
                stored.copy(name, copy)
        copy["points/default/success"][:] = 1
    path = world.run(ADVERSARIAL.format("spared"), tmp_path / "s.h5", spare=[tmp_path / "all.h5"])
    with open_hdf5(path, "adversarial") as file:
        group = file["points/default"]
        assert group["skipped"][:].all() and not group["perturbation"][:].any()
        assert not group["success"][:].any() and not group["forward"][:].any()


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_behind_random_numbers_only_what_all_draws_misclassify_is_spared(
    world, component, tmp_path, share
):
    """A purifier that blackens an image, always or in half of the draws."""

    def blackens(images, noise):
        draws = noise.uniform(images[:, :1, :1, :1], 0, 1)
        return images.where(draws >= share, 0)

    component("purifiers", blackens=blackens)
    file = "seed0/digits/adversarial/{}@small+direct/test.h5"
    purifier = world.settings(file.format("weak"))["purifier"]
    purifier["points"]["default"] = {"function": "toy.blackens", "settings": {}}
    change = {"purifier": purifier}
    weak = world.run(file.format("weak"), tmp_path / "weak.h5", change)
    path = world.run(file.format("spared"), tmp_path / "s.h5", change, spare=[weak])
    with open_hdf5(path, "adversarial") as stored, open_hdf5(weak, "adversarial") as other:
        skipped = stored["points/default/skipped"][:].astype(bool)
        fooled = other["points/default/success"][:].astype(bool)
    if share == 1:
        assert np.array_equal(skipped, fooled) and skipped.any()
    else:
        assert (fooled & ~skipped).any()


def test_a_missing_prediction_of_an_attacked_image_is_damage(world):
    path = world.make(PREDICTED.format("sparing", "none"))
    settings = read_provenance(path)["settings"]
    table = read_table(path, PREDICTIONS)
    check_rows(path, table, settings)
    place = table.column_names.index("prediction")
    predictions = table["prediction"].to_pylist()
    first = next(n for n, value in enumerate(predictions) if value is not None)
    predictions[first] = None
    broken = table.set_column(place, "prediction", pa.array(predictions, pa.int32()))
    with pytest.raises(DamagedFile, match="a prediction is not one of the classes"):
        check_rows(path, broken, settings)
