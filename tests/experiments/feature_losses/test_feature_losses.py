"""Tables of "feature losses": which row is whose, who knows what, and what counts as broken."""

import copy
import csv
import json

import numpy as np
import pytest

from advdenoise.reporting.read import read_stage
from advdenoise.stages import table
from experiments.feature_losses import tables
from experiments.feature_losses.claims import PUBLISHED
from tests.fake_results import Results

KNOWN = "pgd@cnn4+{}"


class FakeExperiment:
    """The cells of a table, from fabricated results that may be changed first."""

    def __init__(self, root, config: dict):
        self.results = Results(root, copy.deepcopy(config))

    def cells(self, name: str = "table1", change=lambda frame: frame):
        inputs = self.results.inputs("tables", "feature_losses", name)
        predictions = read_stage("predictions", inputs["predictions"])
        return tables.defences(predictions.of(change(predictions.frame.copy())))

    def by_label(self, *arguments, **settings) -> dict:
        cells = self.cells(*arguments, **settings)
        actual = {(cell.row, cell.column): cell for cell in cells}
        assert len(actual) == len(cells)
        return actual


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, feature_losses_file):
    return FakeExperiment(tmp_path_factory.mktemp("feature_losses"), feature_losses_file)


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_every_printed_number_has_one_cell(experiment, name):
    assert PUBLISHED.numbers(name).keys() <= experiment.by_label(name).keys()


def test_rows_are_those_of_the_entries_that_the_names_stand_for(experiment):
    cells = experiment.by_label()
    attacks = {"clean": "clean", "FGSM": "fgsm@{}", "PGD": "pgd@{}"}
    defences = {
        "UNSECURED": ("cnn4", "none"),
        "MADRY (2017)": ("madry4", "none"),
        "HGD (2018)": ("cnn4", "hgd"),
        "OURS (FGSM)": ("cnn4", "features_fgsm"),
        "OURS (PGD)": ("cnn4", "features_pgd"),
        "union": ("cnn4", "union"),
        "plain_fgsm": ("cnn4", "plain_fgsm"),
        "plain_pgd": ("cnn4", "plain_pgd"),
        "HGD (2018) (hgd_mse)": ("cnn4", "hgd_mse"),
        "prototype": ("cnn4", "prototype"),
        "mine": ("cnn4", "mine"),
    }
    for attack, threat in attacks.items():
        for defence, (classifier, purifier) in defences.items():
            own = f"OURS ({attack})" == defence
            about = cells[f"{attack} / {'OURS' if own else defence}", "accuracy"].about
            actual = (about["threat"], about["classifier"], about["purifier"])
            assert actual == (threat.format(classifier), classifier, purifier)
    # Of two attacks of one method the second stands under its own name.
    assert (
        cells["PGD, random start, 100 iterations / OURS (PGD)", "accuracy"].about["threat"]
        == "random_start@cnn4"
    )
    for row, threat in (("PGD, 10 iterations", "pgd10"), ("FGSM, true labels", "fgsm_true")):
        assert cells[f"{row} / UNSECURED", "accuracy"].about["threat"] == f"{threat}@cnn4"
    assert not [row for row, _ in cells if "(features" in row or "@" in row]


def test_who_knows_the_purifier_stands_beside_who_does_not(experiment):
    cells = experiment.by_label()
    for row, purifier in (
        ("PGD / OURS", "features_pgd"),
        ("PGD / OURS (FGSM)", "features_fgsm"),
        ("PGD / HGD (2018)", "hgd"),
        ("PGD / union", "union"),
        ("PGD / mine", "mine"),
    ):
        plain, adaptive = (cells[row, column] for column in ("accuracy", "adaptive"))
        assert (plain.about["threat"], plain.about["purifier"]) == ("pgd@cnn4", purifier)
        assert adaptive.about["threat"] == KNOWN.format(purifier)
        assert adaptive.about["purifier"] == purifier
    # Without a purifier the plain attack knows all there is.
    for row in ("FGSM / UNSECURED", "PGD / UNSECURED", "FGSM / MADRY (2017)", "PGD / MADRY (2017)"):
        assert cells[row, "adaptive"].estimate == cells[row, "accuracy"].estimate
    assert not [row for row, column in cells if column != "accuracy" and row.startswith("clean")]
    for row in (
        "FGSM / OURS",
        "FGSM / union",
        "PGD / HGD (2018) (hgd_mse)",
    ):  # no such attack was run
        assert (row, "adaptive") not in cells and (row, "BROKEN?") not in cells


def right(share: float, **names):
    """A change that lets the first `share` of the images of these rows be classified rightly."""

    def change(frame):
        chosen = np.ones(len(frame), dtype=bool)
        for name, value in names.items():
            chosen &= (frame[name] == value).to_numpy()
        hits = frame["id"].rank(method="dense") <= share * frame["id"].nunique()
        wrong = np.where(hits, frame["label"], (frame["label"] + 1) % 10)
        frame["prediction"] = np.where(chosen, wrong, frame["prediction"])
        return frame

    return change


@pytest.mark.parametrize(
    ("share", "broken"),
    [(0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.5, 0.0), (1.0, 0.0)],  # 0.2: its interval holds 0.1
)
def test_broken_is_what_cannot_be_told_from_chance(experiment, share, broken):
    threat = KNOWN.format("features_pgd")
    cells = experiment.by_label(change=right(share, threat=threat))
    assert cells["PGD / OURS", "adaptive"].estimate.value == pytest.approx(100 * share)
    cell = cells["PGD / OURS", "BROKEN?"]
    assert (cell.estimate.value, cell.unit, cell.about["threat"]) == (broken, "yes/no", threat)
    cells = experiment.by_label(change=right(share, threat="fgsm@madry4"))
    assert cells["FGSM / MADRY (2017)", "BROKEN?"].estimate.value == broken


def test_chance_is_that_of_the_images_classes(experiment):
    """Of two classes half are right by chance."""
    cells = experiment.by_label(
        change=lambda frame: right(0.6, threat=KNOWN.format("hgd"))(
            frame.assign(label=frame["label"] % 2)
        )
    )
    assert cells["PGD / HGD (2018)", "BROKEN?"].estimate.value == 1.0
    cells = experiment.by_label(change=right(0.6, threat=KNOWN.format("hgd")))
    assert cells["PGD / HGD (2018)", "BROKEN?"].estimate.value == 0.0


def test_the_network_that_a_denoiser_was_trained_to_please_is_told(tmp_path, feature_losses):
    experiment = FakeExperiment(tmp_path / "trained", feature_losses)
    cells = experiment.cells()
    expected = {cell.about["purifier"]: cell.about["network"] for cell in cells}
    vgg = "vgg (vgg.vgg16, width = 16, batch_norm = True), trained on mnist"
    assert expected["features_pgd"] == expected["union"] == vgg
    assert expected["hgd"] == "cnn4 (convnets.lenet), trained on mnist"
    assert expected["none"] == expected["plain_pgd"] == ""
    names = "OURS (FGSM), OURS, OURS (PGD), union, prototype"
    assert f"The loss network of {names} is {vgg}." in cells.notes
    guide = (
        "The guide of HGD (2018), HGD (2018) (hgd_mse) is cnn4 (convnets.lenet), trained on mnist."
    )
    assert guide in cells.notes
    vgg = feature_losses["classifiers"]["vgg"]
    for settings, epochs, origin in (
        ({"pretrained": True}, 0, "with ImageNet weights"),
        ({"weights": "vgg16.pth"}, 2, "with ImageNet weights and trained on mnist"),
        ({"width": 8}, 0, "untrained"),
    ):
        vgg["settings"], vgg["training"] = settings, {**vgg["training"], "epochs": epochs}
        cells = FakeExperiment(tmp_path / origin, feature_losses).cells()
        (expected,) = {c.about["network"] for c in cells if c.about["purifier"] == "union"}
        shown = ", width = 8" if "width" in settings else ""
        assert expected == f"vgg (vgg.vgg16{shown}), {origin}"


def test_predictions_carry_the_network_of_their_denoiser_alone(experiment):
    def settings(purifier: str) -> dict:
        names = {"seed": "0", "dataset": "mnist", "suite": "feature_losses", "split": "test"}
        names |= {"purifier": purifier, "classifier": "cnn4"}
        return experiment.results.flow.job("evaluate", names).settings

    assert settings("features_fgsm")["network"]["function"] == "vgg.vgg16"
    assert settings("hgd")["network"]["name"] == "cnn4"
    assert "network" not in settings("plain_fgsm") and "network" not in settings("none")


def rows_of(config: dict, root, **suite) -> dict:
    """Rows and purifiers of a table of another suite for cnn4 and madry4."""
    config["suites"]["other"] = suite
    config["experiments"]["feature_losses"]["tables"] = {
        "own": {
            "function": "experiments/feature_losses/tables.py:defences",
            "predictions": {
                "dataset": "mnist",
                "classifier": ["cnn4", "madry4"],
                "suite": "other",
                "split": "test",
            },
        }
    }
    cells = FakeExperiment(root, config).cells("own")
    return {(c.row, c.column): (c.about["classifier"], c.about["threat"]) for c in cells}


def test_a_targeted_attack_is_none_of_the_papers(tmp_path, feature_losses):
    rows = rows_of(feature_losses, tmp_path, threats=["to_zero", "pgd"], purifiers=["none"])
    assert rows["to_zero / UNSECURED", "accuracy"] == ("cnn4", "to_zero@cnn4")
    assert rows["PGD / UNSECURED", "accuracy"] == ("cnn4", "pgd@cnn4")


def test_images_made_against_another_network_or_purifier_say_so(tmp_path, feature_losses):
    rows = rows_of(
        feature_losses,
        tmp_path,
        threats=["pgd@cnn4", "pgd@cnn4+mine", "pgd+"],
        purifiers=["none", "mine", "hgd"],
    )
    assert rows["PGD / UNSECURED", "adaptive"] == ("cnn4", "pgd@cnn4")
    assert rows["PGD / mine", "adaptive"] == ("cnn4", "pgd@cnn4+mine")
    assert rows["PGD / HGD (2018)", "adaptive"] == ("cnn4", "pgd@cnn4+hgd")
    assert rows["pgd@cnn4+mine / HGD (2018)", "accuracy"] == ("cnn4", "pgd@cnn4+mine")
    assert rows["pgd@cnn4 / MADRY (2017)", "accuracy"] == ("madry4", "pgd@cnn4")
    assert rows["PGD / MADRY (2017)", "accuracy"] == ("madry4", "pgd@madry4")
    assert rows["PGD / hgd, madry4", "adaptive"] == ("madry4", "pgd@madry4+hgd")


def test_an_autoencoder_whose_attack_was_not_run_stands_under_its_own_name(
    tmp_path, feature_losses
):
    suite = {"threats": ["clean", "fgsm"], "purifiers": ["features_fgsm", "features_pgd"]}
    rows = rows_of(feature_losses, tmp_path, **suite)
    assert ("FGSM / OURS", "accuracy") in rows and ("clean / OURS (FGSM)", "accuracy") in rows
    assert ("FGSM / features_pgd", "accuracy") in rows


@pytest.mark.parametrize("name", ["table1", "table2", "claims"])
def test_the_stage_writes_them(experiment, tmp_path, name):
    results = experiment.results
    job = results.flow.job("table", {"experiment": "feature_losses", "table": name})
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: tmp_path / f"{name}.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(json.loads(json.dumps(job.settings)), **paths, **inputs)
    for kind in ("markdown", "latex"):
        text = paths[kind].read_text(encoding="utf-8")
        assert "The loss network of OURS" in text and "trained on" in text
    lines = list(csv.DictReader(paths["csv"].read_text(encoding="utf-8").splitlines()))
    if name == "claims":
        assert all(line["verdict"] for line in lines)
        return
    expected = {(x["row"], x["column"]): x for x in lines}
    assert expected["PGD / OURS", "accuracy"]["difference"]
    # The second table's unsecured rows are the first one's.
    assert bool(expected["PGD / UNSECURED", "accuracy"]["difference"]) == (name == "table1")
    assert expected["PGD / UNSECURED", "accuracy"]["published"] == "16.1"


def test_the_autoencoders_layers_are_those_of_figure_4(tmp_path, feature_losses):
    results = Results(tmp_path, feature_losses)
    inputs = results.inputs("tables", "feature_losses", "architecture")
    cells = {(cell.row, cell.column): cell for cell in tables.architecture(inputs["calibration"])}
    rows = {row for row, _ in cells}
    assert all(row.startswith(("mnist, features_pgd: ", "mnist, guided: ")) for row in rows)
    row = "mnist, features_pgd: 2-4 Conv2d+Relu+BatchNorm2d"
    result = {column: cells[row, column].estimate.value for column in ("layers", "parameters")}
    assert result == {"layers": 3, "parameters": 180}
