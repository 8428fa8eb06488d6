"""Files with valid checksums and impossible contents are refused by their readers."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.contents import check_rows
from advdenoise.io.digests import ids_digest
from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.io.json_files import write_json
from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import DETECTION
from advdenoise.reporting.examples import read_examples
from advdenoise.reporting.read import read_stage, read_values
from advdenoise.stages.data import open_adversarial, open_images
from advdenoise.stages.detect import Features

IMAGES = "images/digits/test.h5"
ADVERSARIAL = "seed0/digits/adversarial/fgsm@small/test.h5"
PREDICTIONS = "seed0/digits/predictions/plain/none/small/test.parquet"
FEATURES = "seed0/digits/iqr/fgsm@small/blocks/small/test.parquet"


def rewritten(source, path, change):
    """A valid copy of an HDF5 file with the arrays that `change(name, array)` returns."""
    with open_hdf5(source) as file:
        provenance = json.loads(file.attrs["provenance"])
        with create_hdf5(path, provenance, file.attrs["kind"]) as copy:
            attributes = {n: v for n, v in file.attrs.items() if n not in ("provenance", "kind")}
            copy.attrs.update(attributes)

            def add(name, item):
                if hasattr(item, "shape"):
                    array = change(name, item[:])
                    if array is not None:
                        add_array(copy, name, array)
                else:
                    copy.create_group(name).attrs.update(item.attrs)

            file.visititems(add)
    return path


def only(suffix, edit):
    """Edit the array whose name ends so and leave the others."""

    def change(name, array):
        return edit(array.copy()) if name.endswith(suffix) else array

    return change


def set_row(value, row=3):
    def edit(array):
        array[row] = value
        return array

    return edit


HALF = [
    (lambda name, array: array[: len(array) // 2], "holds 10 images of 20"),
    (lambda name, array: array[:0], "it holds 0 images, 0 labels and 0 ids"),
    (only("labels", lambda array: array[:5]), "20 images, 5 labels and 20 ids"),
    (only("images", lambda array: array[:5]), "5 images, 20 labels and 20 ids"),
    (only("ids", lambda array: array[[0, 0, *range(2, 20)]]), "holds an image twice"),
    (only("ids", lambda array: None), "damaged"),
    (only("labels", set_row(10)), "a label is none of its 10 classes"),
    (only("labels", set_row(-1)), "a label is none of its 10 classes"),
]


@pytest.mark.parametrize(("change", "message"), HALF, ids=[m for _, m in HALF])
def test_impossible_images(world, tmp_path, change, message):
    path = rewritten(world.make(IMAGES), tmp_path / "test.h5", change)
    with pytest.raises(DamagedFile, match=message) as refused, open_images(path):
        pass
    assert str(refused.value).startswith(str(path))


INVALID = [
    (only("perturbation", set_row(np.nan)), "its perturbations are not finite"),
    (only("perturbation", set_row(np.inf)), "its perturbations are not finite"),
    (only("perturbation", set_row(0.21)), "a perturbation of 0.21 is beyond the budget of 0.2"),
    (only("perturbation", lambda array: -abs(array)), r"lead out of \[0,1\]"),
    (only("perturbation", lambda array: array[:7]), "perturbation of default is 7x1x28x28 for 20"),
    (only("epsilon", lambda array: array[:7]), "epsilon of default is 7 for 20 images"),
    (only("ids", set_row(99999)), "was made from other images"),
    (lambda name, array: array if name == "ids" else None, "damaged"),
]


@pytest.mark.parametrize(("change", "message"), INVALID, ids=[m for _, m in INVALID])
def test_impossible_adversarial_sets(world, tmp_path, change, message):
    path = rewritten(world.make(ADVERSARIAL), tmp_path / "test.h5", change)
    with (
        pytest.raises(BadInput, match=message) as refused,
        open_images(world.make(IMAGES)) as clean,
        open_adversarial(path, clean) as opened,
    ):
        for batch in clean.batches(8, torch.device("cpu")):
            opened.perturbation("default", batch)
    assert str(refused.value).startswith(str(path))


def test_a_start_radius_widens_the_budget(world, tmp_path):
    def change(name, array):
        if name.endswith("perturbation"):
            with open_images(world.make(IMAGES)) as clean:
                pixels = clean.stored[3] / np.float32(255)
            array[3] = np.where(pixels < 0.5, 0.25, -0.25)
        return array

    path = rewritten(world.make(ADVERSARIAL), tmp_path / "near.h5", change)
    wider = tmp_path / "wider.h5"
    with open_hdf5(path) as file:
        provenance, point = json.loads(file.attrs["provenance"]), file["points/default"]
        with create_hdf5(wider, provenance, "adversarial") as copy:
            copy.attrs["threat"] = file.attrs["threat"]
            add_array(copy, "ids", file["ids"][:])
            group = copy.create_group("points/default")
            entry = json.loads(point.attrs["entry"])
            entry["settings"]["start_radius"] = 0.05
            group.attrs["entry"] = json.dumps(entry)
            for name, array in point.items():
                add_array(group, name, array[:])
    with open_images(world.make(IMAGES)) as clean:
        (batch,) = clean.batches(20, torch.device("cpu"))
        with open_adversarial(wider, clean) as opened:
            assert opened.perturbation("default", batch).abs().max() == 0.25
        beyond = pytest.raises(DamagedFile, match="0.25 is beyond the budget of 0.2")
        with beyond, open_adversarial(path, clean) as opened:
            opened.perturbation("default", batch)


def test_an_attack_that_leaves_its_budget_is_refused_when_it_runs(world, tmp_path, component):
    component("attacks", toy=lambda images, *, epsilon: 2 * epsilon * torch.ones_like(images))
    file = "seed0/digits/adversarial/random@small/test.h5"
    settings = world.settings(file)["attack"]
    settings["points"]["default"]["function"] = "toy.toy"
    with pytest.raises(BadInput, match=r"attacks.random: toy.toy is wrong \(a perturbation of 0.4"):
        world.run(file, tmp_path / "test.h5", {"attack": settings})


def even_ids(table):
    return table.filter(pa.array(np.asarray(table["id"]) % 2 == 0))


def edited(name, value, row=3):
    def edit(table):
        column = table[name].to_pylist()
        column[row] = value
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, pa.array(column, table.schema.field(name).type))

    return edit


ROWS = [
    (lambda table: table.slice(0, len(table) // 2), "it lacks rows"),
    (even_ids, "it lacks rows"),
    (lambda table: table.slice(0, 0), "it holds no rows"),
    (lambda table: table.slice(0, len(table) - 1), "it lacks rows"),
    (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "it holds an image twice"),
    (edited("label", 10), "a label is not one of the classes"),
    (edited("label", None), "a label is not one of the classes"),
    (edited("prediction", 12), "a prediction is not one of the classes"),
    (edited("prediction", -2), "a prediction is not one of the classes"),
    (edited("id", 12345678), "it lacks rows"),
    (edited("threat", "pgd@small"), "it lacks rows"),
]


@pytest.mark.parametrize("number", range(len(ROWS)))
@pytest.mark.parametrize(("name", "stage"), [(PREDICTIONS, "predictions"), (FEATURES, "iqr")])
def test_impossible_rows(world, tmp_path, name, stage, number):
    change, message = ROWS[number]
    source = world.make(name)
    table, provenance = read_table(source), read_provenance(source)
    if stage == "iqr" and change is ROWS[-1][0]:
        pytest.skip("a file of one threat has no such column")
    path = tmp_path / "test.parquet"
    write_table(path, table, provenance)
    read_stage(stage, [path])
    write_table(path, change(table), provenance)
    with pytest.raises(DamagedFile, match=message) as refused:
        read_stage(stage, [path])
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_scores_that_are_not_finite(tmp_path, value):
    row = dict.fromkeys(DETECTION.names, 1) | {"is_adversarial": True, "score": value}
    texts = [f.name for f in DETECTION if pa.types.is_string(f.type)]
    table = pa.Table.from_pylist([row | dict.fromkeys(texts, "a")], DETECTION)
    write_table(tmp_path / "test.parquet", table, {"settings": {}})
    with pytest.raises(DamagedFile, match="a value of score is not finite"):
        read_stage("detection", [tmp_path / "test.parquet"])


def test_halved_features_are_refused_by_the_detector(world, tmp_path):
    source = world.make(FEATURES)
    clean = shutil.copy(world.make(FEATURES.replace("fgsm@small", "clean")), tmp_path)
    Features([clean, source], ["fgsm@small"], "n6")
    half = tmp_path / "half.parquet"
    write_table(half, even_ids(read_table(source)), read_provenance(source))
    with pytest.raises(DamagedFile, match=f"^{half} .*it lacks rows"):
        Features([clean, half], ["fgsm@small"], "n6")


DISTANCES = "seed0/digits/distances/plain/small/test.parquet"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("layer", "layers.6", "it lacks rows of layer layers.6"),
        ("threat", "clean", "it lacks rows of threat and purifier clean, "),
        ("purifier", "direct", "it lacks rows of threat and purifier clean, direct"),
    ],
)
def test_missing_distances_of_a_layer_or_purifier(world, tmp_path, column, value, message):
    source = world.make(DISTANCES)
    table, provenance = read_table(source), read_provenance(source)
    read_stage("distances", [source])
    path = tmp_path / "test.parquet"
    rest = table.filter(pa.array(np.asarray(table[column].to_pylist()) != value))
    write_table(path, rest, provenance)
    with pytest.raises(DamagedFile, match=message):
        read_stage("distances", [path])
    # One purifier alone lacks a layer.
    wrong = (np.asarray(table["layer"].to_pylist()) == "layers.6") & (
        np.asarray(table["purifier"].to_pylist()) == "direct"
    )
    write_table(path, table.filter(pa.array(~wrong)), provenance)
    with pytest.raises(DamagedFile, match="it lacks rows: not every .* has each layer"):
        read_stage("distances", [path])


@pytest.mark.parametrize("value", [[1], {}, {"mean": np.nan, "deviation": 1.0}, {"mean": 1.0}])
def test_a_calibration_without_finite_numbers_is_damaged(tmp_path, value):
    path = tmp_path / "dae.calibration.json"
    write_json(path, {"mean": 1.0, "deviation": 0.5}, {"settings": {}})
    assert read_values([path]) == [({"mean": 1.0, "deviation": 0.5}, {})]
    write_json(path, value, {"settings": {}})
    with pytest.raises(DamagedFile, match=f"^{path} is damaged"):
        read_values([path])


def test_halved_examples_are_refused(world, tmp_path):
    source = world.make("seed0/digits/examples/fgsm@small/none/small/test.h5")
    assert len(read_examples([source])) == 1
    path = rewritten(source, tmp_path / "a.h5", only("seen", lambda array: array[:2]))
    with pytest.raises(DamagedFile, match="2 rows of .*seen for 5 images"):
        read_examples([path])


def test_digests_of_ids_ignore_their_order():
    assert ids_digest(np.array([3, 1, 2])) == ids_digest(np.array([1, 2, 3], np.int32))
    assert len({ids_digest(np.arange(n, n + m)) for n in (0, 1) for m in (2, 3)}) == 4
    with pytest.raises(DamagedFile, match="it lacks rows"):
        table = pa.table({"id": [1, 2, 3], "attack_point": ["a", "a", "b"]})
        check_rows("x.parquet", table, {"ids": ids_digest(np.arange(1, 4))})
