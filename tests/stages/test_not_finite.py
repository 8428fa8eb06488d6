"""What is not a finite number counts as wrong or is refused, in each stage that makes a number."""

import json

import numpy as np
import pytest
import torch

from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.hdf5 import create_hdf5, open_hdf5
from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import IQR, PREDICTIONS, iqr_schema
from advdenoise.io.weights import read_weights, write_weights
from advdenoise.stages import evaluate, table
from advdenoise.stages.data import GRADIENTS

NAN = float("nan")
PREDICTED = "seed0/digits/predictions/plain/none/small/few.parquet"
ATTACKED = "seed0/digits/adversarial/{}@small+direct/few.h5"
DISTANCES = "seed0/digits/distances/plain/small/few.parquet"
EXAMPLES = "seed0/digits/examples/clean/direct/small/few.h5"
CLEAN_IQR = "seed0/digits/iqr/clean/blocks/small/few.parquet"
DETECTION = "seed0/digits/detection/plain/shelf/blocks/small/few.parquet"
CALIBRATION = "seed0/digits/denoisers/of_noise.calibration.json"
NETWORK = "seed0/digits/{}/{}.safetensors"


def is_bright(images):
    """Which images the purifier below diverges on: about half of the digits."""
    return (images.clamp(0, 1).mean((1, 2, 3)) > 0.157).view(-1, 1, 1, 1)


def half(images):
    return images.where(~is_bright(images), NAN)


def hidden(images):
    """Finite where it has no image to give: the network is to blame no more."""
    return images.where(~is_bright(images), float("inf"))


def purifier(name: str) -> dict:
    return {"name": "toy", "points": {"default": {"function": f"toy.{name}", "settings": {}}}}


@pytest.fixture
def toys(component):
    component("purifiers", half=half, hidden=hidden, every=lambda images: images * NAN)


def bright(world) -> np.ndarray:
    with open_hdf5(world.make("images/digits/few.h5")) as file:
        return is_bright(torch.from_numpy(file["images"][:] / np.float32(255))).numpy().ravel()


@pytest.mark.parametrize("name", ["half", "hidden"])
def test_images_without_finite_outputs_are_wrong(world, toys, tmp_path, name):
    path = world.run(PREDICTED, tmp_path / "x.parquet", {"purifier": purifier(name)})
    result = read_table(path, PREDICTIONS).to_pandas()
    plain = read_table(world.make(PREDICTED), PREDICTIONS).to_pandas()
    lost = bright(world)
    assert 2 <= lost.sum() <= 10
    clean, before = (rows[rows["threat"] == "clean"] for rows in (result, plain))
    assert (clean["prediction"][lost] == -1).all() and (clean["label_rank"][lost] == 9).all()
    assert clean["confidence"][lost].isna().all() and clean["confidence"][~lost].notna().all()
    for column in ("prediction", "label_rank", "confidence", "mse_after"):
        assert np.array_equal(clean[column][~lost], before[column][~lost])
    records = read_provenance(path)["settings"]["not_finite"]
    of_clean = {"threat": "clean", "attack_point": "default", "purifier_point": "default"}
    assert records[0] == of_clean | {"images": int(lost.sum()), "of": 12}
    assert {record["threat"] for record in records} == {"clean", "fgsm@small", "cycled@small"}


def test_a_table_says_how_many_and_counts_them_as_wrong(world, toys, tmp_path):
    path = world.run(PREDICTED, tmp_path / "x.parquet", {"purifier": purifier("half")})
    files = {name: tmp_path / name for name in ("csv", "markdown", "latex")}
    for number, function in enumerate(("accuracy.by_threat", "accuracy.worst_case")):
        settings = {"entry": {"function": function}, "experiment": "mine", "table": f"t{number}"}
        table.run(settings | {"left_out": []}, **files, predictions=[path, world.make(PREDICTED)])
        lost = int(bright(world).sum())
        text = files["markdown"].read_text()
        start = f"digits, small, toy: {lost} of 12 images under clean, "
        assert start in text and "had no finite output and count as wrong." in text
    rows = read_table(path, PREDICTIONS).to_pandas()
    assert (rows["prediction"] == rows["label"])[rows["threat"] == "clean"].mean() <= 1 - lost / 12


def test_a_purifier_that_always_diverges_is_never_right(world, toys, tmp_path):
    path = world.run(PREDICTED, tmp_path / "x.parquet", {"purifier": purifier("every")})
    settings = {"entry": {"function": "accuracy.worst_case", "settings": {"among_top": True}}}
    files = {name: tmp_path / name for name in ("csv", "markdown", "latex")}
    about = {"experiment": "mine", "table": "top", "left_out": []}
    table.run(settings | about, **files, predictions=[path])
    assert "0.0 [0.0, " in files["markdown"].read_text() and "100.0" not in files["csv"].read_text()


def test_a_pixel_without_a_finite_output_is_an_error():
    masks = torch.tensor([[[0, 1, 2, IGNORED]]])
    logits = torch.nn.functional.one_hot(masks.clamp(max=2), 3).movedim(-1, 1).float()
    whole = evaluate._of_pixels(logits, masks)
    assert whole["confusion"].tolist() == [np.eye(3).tolist()]
    logits[0, 1, 0, 2:] = NAN
    result = evaluate._of_pixels(logits, masks)
    assert result["prediction"].tolist() == [[[0, 1, -1, -1]]]
    matrix = result["confusion"][0]
    assert matrix.sum() == 3 and matrix.diagonal().tolist() == [1, 1, 0] and matrix[2].sum() == 1


@pytest.mark.parametrize("attack", ["bim", "targeted", "bpda"])
def test_what_an_attack_could_not_move_is_told(world, toys, tmp_path, capsys, attack):
    changes = {"purifier": purifier("half")}
    path = world.run(ATTACKED.format(attack), tmp_path / "x.h5", changes, calibration=None)
    lost = bright(world)
    with open_hdf5(path) as file:
        group = file["points/default"]
        # Behind the purifier such an image is wrong: the attacker need do no more.
        assert group["success"][:][lost].all()
        assert group.attrs[GRADIENTS] >= lost.sum()
        assert np.isfinite(group["perturbation"][:]).all()
        unmoved = group.attrs[GRADIENTS]
    assert (
        f"at {unmoved} of 12 images outputs or a gradient were not finite"
        in capsys.readouterr().out
    )


def test_a_table_tells_of_attacks_that_could_not_move(world, toys, tmp_path):
    path = world.path("results/tiny/seed0/digits/adversarial/fgsm@small/few.h5")
    world.make("seed0/digits/adversarial/fgsm@small/few.h5")
    stored = tmp_path / "fgsm.h5"
    with create_hdf5(stored, read_provenance(path), "adversarial") as file:
        with open_hdf5(path) as other:
            file.attrs["threat"] = other.attrs["threat"]
            for name in ("ids", "labels", "points"):
                other.copy(name, file)
        file["points/default"].attrs[GRADIENTS] = 5
    cycled = world.make("seed0/digits/adversarial/cycled@small/few.h5")
    written = world.run(PREDICTED, tmp_path / "x.parquet", adversarial=[stored, cycled])
    files = {name: tmp_path / name for name in ("csv", "markdown", "latex")}
    about = {"experiment": "mine", "table": "t", "left_out": []}
    entry = {"entry": {"function": "accuracy.by_threat"}}
    table.run(entry | about, **files, predictions=[written])
    assert (
        "digits: at 5 of 12 images of fgsm@small outputs or a gradient"
        in files["markdown"].read_text()
    )


def test_a_stored_perturbation_that_is_not_finite_is_refused(world, tmp_path):
    paths = [
        world.make(f"seed0/digits/adversarial/{name}@small/few.h5") for name in ("fgsm", "cycled")
    ]
    stored = tmp_path / "fgsm.h5"
    with create_hdf5(stored, read_provenance(paths[0]), "adversarial") as file:
        with open_hdf5(paths[0]) as other:
            file.attrs["threat"] = other.attrs["threat"]
            for name in ("ids", "labels", "points"):
                other.copy(name, file)
        file["points/default/perturbation"][3, 0, 2, 2] = NAN
    with pytest.raises(DamagedFile, match="its perturbations are not finite"):
        world.run(PREDICTED, tmp_path / "x.parquet", adversarial=[stored, paths[1]])


def test_maps_that_are_not_finite_have_no_distance(world, toys, tmp_path):
    entries = world.settings(DISTANCES)["purifiers"]
    entries[1] |= purifier("half") | {"name": "direct"}
    with pytest.raises(BadInput, match="under clean, behind purifiers.direct, .* layers.0 are not"):
        world.run(DISTANCES, tmp_path / "x.parquet", {"purifiers": entries})
    assert not list(tmp_path.iterdir())


def test_examples_show_what_has_no_output(world, toys, tmp_path):
    changes = {"purifier": purifier("every"), "superpixels": {}, "maps": []}
    path = world.run(EXAMPLES, tmp_path / "x.h5", changes)
    with open_hdf5(path) as file:
        group = file["default/default"]
        assert (group["prediction"][:] == -1).all() and np.isnan(group["confidence"][:]).all()


def test_a_denoiser_that_is_not_finite_is_not_calibrated(world, monkeypatch, tmp_path):
    inner = torch.nn.Conv2d.forward
    monkeypatch.setattr(
        torch.nn.Conv2d, "forward", lambda self, x: inner(self, x).where(~is_bright(x), NAN)
    )
    with pytest.raises(BadInput, match=r"denoisers\.of_noise: .* images is not finite"):
        world.run(CALIBRATION, tmp_path / "x.json")


def test_features_and_scores_that_are_not_finite_are_refused(world, component, tmp_path):
    whole = read_table(world.make(CLEAN_IQR))
    made_by = json.loads(json.dumps(read_provenance(world.make(CLEAN_IQR))))
    rows = whole.to_pandas()
    rows.at[0, "predicted"] = np.array([NAN], dtype=np.float32)
    hidden_size = whole.schema.field("hidden").type.list_size
    damaged = tmp_path / "iqr.parquet"
    import pyarrow as pa

    schema = iqr_schema(10, hidden_size)
    assert schema.names[: len(IQR)] == IQR.names
    write_table(damaged, pa.Table.from_pandas(rows, schema, preserve_index=False), made_by)
    features = world.options(DETECTION, tmp_path / "x")[1]["features"]
    with pytest.raises(DamagedFile, match="iqr.parquet: features predicted are not finite"):
        world.run(DETECTION, tmp_path / "x.parquet", features=[damaged, *features[1:]])

    class Broken:
        def fit(self, features, is_adversarial):
            pass

        def score(self, features):
            return features[:, 0] * NAN

    component("detectors", broken=Broken)
    point = {"function": "toy.broken", "settings": {}}
    changes = {"detector": {"name": "mine", "points": {"default": point}}}
    with pytest.raises(BadInput, match=r"detectors\.mine: toy\.broken gives scores that are not"):
        world.run(DETECTION, tmp_path / "x.parquet", changes)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_stored_weights_that_are_not_finite_are_refused(world, tmp_path, value):
    path = world.make(NETWORK.format("classifiers", "small"))
    tensors, made_by = read_weights(path)
    name = next(iter(tensors))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[1] = value
    write_weights(tmp_path / "w.safetensors", tensors, made_by)
    with pytest.raises(DamagedFile, match=f"w.safetensors: the weights {name} are not finite"):
        world.run(PREDICTED, tmp_path / "x.parquet", classifier=tmp_path / "w.safetensors")
