"""Tables of "propagation": which set, denoiser and network is whose, noise on the scale 0..255."""

import copy
import csv
import json

import numpy as np
import pytest

from advdenoise.calls import call_with
from advdenoise.graph.sources import load
from advdenoise.reporting.read import read_stage
from advdenoise.stages import table
from experiments.propagation import results as known
from experiments.propagation.claims import PUBLISHED
from tests.fake_results import Results, rows

NETWORKS = {
    "ResNet V2-50": "resnetv2_50",
    "VGG-19": "vgg19",
    "SENet-154": "senet154",
    "Inception-ResNet V2": "inception_resnet_v2",
    "DenseNet-201": "densenet201",
}
SETS = {
    "FGSM v1": "fgsm_v1@attacker18",
    "FGSM v2": "fgsm_v2@inception_early",
    "i-FGSM v1": "ifgsm_v1@attacker18",
    "i-FGSM v2": "ifgsm_v2@inception_early",
    "mi-FGSM": "mifgsm@inception_early",
}
LONG = "i-FGSM v2 (ifgsm_long@inception_early)"  # the second of its kind
SETTINGS = {"w/o DN": "none", "w/ FN": "fusionnet", "w/ UN": "unet"}


class FakeExperiment:
    """A product's cells, from fabricated results that may be changed first."""

    def __init__(self, root, config: dict):
        self.results = Results(root, copy.deepcopy(config))
        self._read: dict[str, dict] = {}

    def given(self, name: str, *changes) -> dict:
        """The inputs of a table; each change gets a stage's name and its rows."""
        if name not in self._read:
            inputs = self.results.inputs("tables", "propagation", name)
            self._read[name] = {stage: read_stage(stage, files) for stage, files in inputs.items()}
        given = {}
        for stage, result in self._read[name].items():
            frame = result.frame.copy()
            for change in changes:
                change(stage, frame)
            given[stage] = result.of(frame)
        return given

    def cells(self, name: str, *changes):
        entry = self.results.flow.config["experiments"]["propagation"]["tables"][name]
        return call_with(load("tables", entry), **self.given(name, *changes))

    def by_label(self, name: str, *changes) -> dict:
        cells = self.cells(name, *changes)
        result = {(cell.row, cell.column): cell for cell in cells}
        assert len(result) == len(cells)
        return result


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, propagation_file):
    return FakeExperiment(tmp_path_factory.mktemp("propagation"), propagation_file)


def setting(_stage: str, **values):
    """Gives columns of some rows of a stage another value."""

    def of(**names):
        def change(stage, frame) -> None:
            if stage == _stage:
                for column, value in values.items():
                    frame.loc[rows(frame, **names), column] = value

        return change

    return of


def right(share: float, **names):
    """Lets the first `share` of the images of these rows be classified rightly."""

    def change(stage, frame) -> None:
        if stage == "predictions":
            hits = frame["id"].rank(method="dense") <= share * frame["id"].nunique()
            guessed = np.where(hits, frame["label"], (frame["label"] + 1) % 10)
            frame["prediction"] = np.where(rows(frame, **names), guessed, frame["prediction"])

    return change


@pytest.mark.parametrize("number", range(1, 8))
def test_every_printed_number_has_one_cell_of_its_kind(experiment, number):
    cells = experiment.by_label(f"table{number}")
    printed = PUBLISHED.numbers(f"table{number}")
    if number == 6:  # layers are observed by the taps of the configuration
        printed = {place: line for place, line in printed.items() if place in cells}
        assert {column for _, column in printed} == {*NETWORKS}
    assert printed.keys() <= cells.keys() and printed
    for place, line in printed.items():
        assert cells[place].unit == line["unit"]
        assert bool(cells[place].text) == (line["unit"] in ("name", "text"))


@pytest.mark.parametrize("name", ["table5", "table7"])
def test_accuracies_stand_for_the_entries_that_their_labels_say(experiment, name):
    networks = NETWORKS
    if name == "table7":
        networks = {"FC->Conv": "densenet201_conv", "PReLU after FC": "densenet201_prelu"}
    cells = experiment.by_label(name)
    for row, threat in SETS.items():
        for network, classifier in networks.items():
            for column, purifier in SETTINGS.items():
                about = cells[row, f"{network} {column}"].about
                result = (about["threat"], about["classifier"], about["purifier"])
                assert result == (threat, classifier, purifier)
    own = {row for row, _ in cells} - {*SETS}
    assert own == ({"clean", LONG} if name == "table5" else {"clean"})
    if name == "table5":
        cell = cells[LONG, "VGG-19 w/ FN (fusionnet16)"]
        assert cell.about["purifier"] == "fusionnet16"


def test_accuracy_is_a_share_of_images(experiment):
    names = {"classifier": "vgg19", "threat": SETS["FGSM v2"], "purifier": "unet"}
    cell = experiment.by_label("table5", right(0.4, **names))["FGSM v2", "VGG-19 w/ UN"]
    assert cell.estimate.value == pytest.approx(40) and cell.unit == "%"


def test_table_1_squares_grey_levels(experiment):
    attacked = {"threat": SETS["i-FGSM v1"], "split": "test"}
    cells = experiment.by_label(
        "table1",
        setting("predictions", mse_before=1 / 255**2)(**attacked),
        setting("predictions", mse_after=0.25 / 255**2)(purifier="fusionnet", **attacked),
        setting("predictions", mse_after=4 / 255**2)(purifier="unet", **attacked),
        right(0.5, purifier="fusionnet", **attacked),
        right(0.9, split="train", threat="clean"),
        right(0.8, split="test", threat="clean", purifier="none"),
    )
    row = {c: cell.estimate.value for (r, c), cell in cells.items() if r == "i-FGSM v1"}
    assert row["MSE(x_ori,x_adv)"] == pytest.approx(1)
    assert row["MSE(x_ori,DN(x_adv))"] == pytest.approx(0.25)
    assert row["MSE(x_ori,DN(x_adv)) w/ UN"] == pytest.approx(4)
    assert row["F(DN(x_adv))"] == pytest.approx(50)
    assert cells["caption", "train accuracy"].estimate.value == pytest.approx(90)
    assert cells["caption", "validation accuracy"].estimate.value == pytest.approx(80)
    assert cells["caption", "train accuracy"].about["split"] == "train"


def test_table_2_names_who_gives_the_gradient_and_who_is_to_err(experiment):
    clean = {"threat": "clean"}
    cells = experiment.by_label(
        "table2",
        right(0.6, classifier="attacker18", **clean),
        right(0.8, classifier="inception_early", **clean),
    )
    for row in SETS:
        is_white = row.endswith("v1")
        assert cells[row, "attacker"].text == "ResNet-18"
        target = "ResNet-18" if is_white else "Inception-ResNet V2"
        assert cells[row, "classifier (target)"].text == target
        accuracy = cells[row, "classifier top-1 val. acc."].estimate.value
        assert accuracy == pytest.approx(60 if is_white else 80)
        assert cells[row, "attacker top-1 val. acc."].estimate.value == pytest.approx(60)


def test_table_3_counts_what_the_networks_are(experiment):
    cells = experiment.by_label("table3", right(0.9, classifier="senet154"))
    assert cells["SENet-154", "top-1 training acc."].estimate.value == pytest.approx(90)
    assert cells["SENet-154", "Num. parameters"].estimate.value == 1.5
    assert cells["SENet-154", "Num. layers"].estimate.value == 5
    assert {row for row, _ in cells} == {*NETWORKS}


def test_table_4_is_counted_once_for_all_classifiers(experiment):
    cells = experiment.by_label(
        "table4",
        setting("predictions", mse_before=2 / 255**2)(threat=SETS["mi-FGSM"]),
        setting("predictions", mse_after=0.5 / 255**2)(threat=SETS["mi-FGSM"], purifier="unet"),
    )
    assert cells["mi-FGSM", "Primary"].estimate.value == pytest.approx(2)
    assert cells["mi-FGSM", "U-Net"].estimate.value == pytest.approx(0.5)
    assert cells["mi-FGSM", "U-Net"].estimate.n == 30
    assert cells[LONG, "w/ FN (fusionnet16)"].about["purifier"] == "fusionnet16"


def test_table_6_shows_the_taps_and_the_shapes_of_their_maps(experiment):
    cells = experiment.by_label("table6")
    cell = cells["2", "VGG-19"]
    assert cell.text == "layers.pre_logits.act1, 4x2x2"
    assert cell.estimate.value == cell.about["elements"] == 16
    assert [r for r, c in cells if c == "ResNet V2-50"] == ["1", "2", "3", "4"]


def curve(network: str, **by_layer):
    """Distances of a network that are equal for all images and sets, one for each layer."""

    def change(stage, frame) -> None:
        if stage == "distances":
            for measure, values in by_layer.items():
                for index, value in enumerate(values):
                    chosen = rows(frame, classifier=network, layer_index=index)
                    frame.loc[chosen, measure] = value

    return change


def test_figure_4_is_told_at_the_last_layer(experiment):
    cells = experiment.by_label(
        "figure4",
        curve("resnetv2_50", ne_d=[9, 8, 7, 0.5], cos_d=[0.1, 0.2, 0.3, 0.6]),
        setting("distances", ne_d=1.5)(
            classifier="resnetv2_50", layer_index=3, threat=SETS["FGSM v2"], purifier="unet"
        ),
    )
    assert cells["ResNet V2-50, all sets", "NE-D w/o DN"].estimate.value == pytest.approx(0.5)
    assert cells["ResNet V2-50, all sets", "NE-D w/ UN"].estimate.value == pytest.approx(0.7)
    assert cells["ResNet V2-50, FGSM v2", "NE-D w/ UN"].estimate.value == pytest.approx(1.5)
    assert cells["ResNet V2-50, mi-FGSM", "COS-D w/ FN"].estimate.value == pytest.approx(0.6)
    assert {column for _, column in cells} == {
        f"{measure} {s}" for measure in known.MEASURES.values() for s in SETTINGS
    }


def test_the_share_of_the_normaliser(experiment):
    """A jump of 100 by n is one of 10 by the root of n: half of its logarithm."""
    cells = experiment.by_label(
        "normaliser",
        curve("vgg19", ne_d=[3, 1, 100], ne_d_sqrt=[1, 1, 10]),
        curve("densenet201", ne_d=[1, 1, 0.5], ne_d_sqrt=[1, 1, 1]),
        curve("senet154", ne_d=[1, 1, 2], ne_d_sqrt=[1, 2, 1]),
    )

    def values(row, against):
        names = ("by n", "by the root of n", "the normaliser's share")
        return [cells[row, f"{name}, against {against}"].estimate.value for name in names]

    assert values("VGG-19, all sets, w/o DN", "the layer before") == pytest.approx([100, 10, 0.5])
    of_mean = values("VGG-19, FGSM v1, w/ UN", "the mean of all before")
    assert of_mean[:2] == pytest.approx([50, 10])
    none = values("DenseNet-201, all sets, w/ FN", "the layer before")
    assert none[:2] == pytest.approx([0.5, 1]) and np.isnan(none[2])
    assert values("SENet-154, all sets, w/ FN", "the layer before")[2] == pytest.approx(2)


def test_a_set_is_known_by_method_gradient_and_victim_and_by_no_name(propagation, tmp_path):
    attacks = propagation["attacks"]
    attacks["ifgsm_v1"], attacks["fgsm_v2"] = attacks["fgsm_v2"], attacks["ifgsm_v1"]
    attacks["mifgsm"] = {
        "function": "gradient.mi_fgsm",
        "settings": {"epsilon": 0.1, "alpha": 0.1, "steps": 2},
    }
    cells = FakeExperiment(tmp_path, propagation).by_label("table2")
    # Each gives what its function and its networks say: these are swapped.
    assert cells["FGSM v1", "attacker"].about["threat"] == "fgsm_v1@attacker18"
    assert cells["i-FGSM v2", "attacker"].about["threat"] == "fgsm_v2@inception_early"
    assert "mi-FGSM" not in {row for row, _ in cells}  # of equal name, without a stop rule
    assert "ifgsm_v1" not in str({row for row, _ in cells} & {*SETS})


@pytest.mark.parametrize("name", ["table2", "table3", "table6", "figure4", "claims"])
def test_the_stage_writes_them(experiment, tmp_path, name):
    results = experiment.results
    job = results.flow.job("table", {"experiment": "propagation", "table": name})
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: tmp_path / f"{name}.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(json.loads(json.dumps(job.settings)), **paths, **inputs)
    lines = list(csv.DictReader(paths["csv"].read_text(encoding="utf-8").splitlines()))
    if name == "claims":
        assert lines and all(line["verdict"] for line in lines)
        return
    expected = {(line["row"], line["column"]): line for line in lines}
    if name == "table2":
        line = expected["FGSM v2", "classifier (target)"]
        assert line["value"] == line["published"] == "Inception-ResNet V2"
        assert not line["difference"]
        assert expected["FGSM v2", "classifier top-1 val. acc."]["difference"]
        text = paths["markdown"].read_text(encoding="utf-8")
        assert "| Inception-ResNet V2 (Inception-ResNet V2)" in text
    if name == "table3":
        assert expected["VGG-19", "Num. parameters"]["published"] == "138.36"
        assert expected["VGG-19", "top-1 training acc."]["difference"]
    if name == "table6":
        assert expected["1", "DenseNet-201"]["published"] == "1 Conv, 1 max pool, 6 FCs"
        assert expected["1", "DenseNet-201"]["elements"] == "16"
