"""Figures: valid SVG, the same bytes twice, with what they are to show."""

import copy
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from scripts.advdenoise import store
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.figures import detection, superpixels
from scripts.advdenoise.stages import figures
from scripts.advdenoise.tables._read import read_stage
from tests.fake_results import Results

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def results(tmp_path, quick):
    return Results(tmp_path / "files", quick)


def drawn(results, paper: str, output: Path, **changes) -> dict[str, ElementTree.Element]:
    """The figures of a paper as the stage draws them, by name."""
    settings = json.loads(json.dumps(results.flow.job("figures", {"paper": paper}).settings))
    settings["inputs"] = {
        name: {stage: [str(results.make(file)) for file in files] for stage, files in given.items()}
        for name, given in settings["inputs"].items()
    }
    settings |= changes
    paths = [output / f"{name}.svg" for name in settings["figures"]]
    figures.run(settings, paths)
    return {path.stem: ElementTree.parse(path).getroot() for path in paths}


def texts(figure: ElementTree.Element) -> list[str]:
    """All texts: they stay texts, so that a report can be searched."""
    return ["".join(element.itertext()).strip() for element in figure.iter(f"{SVG}text")]


def examples(results, shape=(1, 6, 6), wrong: int = 2) -> None:
    """A file of examples with random images, the first `wrong` of them misclassified."""
    (file,) = results.flow.job("figures", {"paper": "feature_losses"}).inputs["files"]
    random = np.random.default_rng(0)
    settings = {"threat": "pgd@cnn4", "purifier": {"name": "direct_pgd"}}
    labels = np.arange(8)
    with store.create_hdf5(results.root / file, {"settings": settings}, "examples") as made:
        made.attrs["classes"] = json.dumps([f"class{label}" for label in range(10)])
        store.add_array(made, "images", random.random((8, *shape), dtype=np.float32))
        store.add_array(made, "labels", labels)
        store.add_array(made, "ids", labels)
        for point in ("default", "strong"):
            group = made.create_group(f"{point}/default")
            for name in ("seen", "purified"):
                store.add_array(group, name, random.random((8, *shape), dtype=np.float32))
            store.add_array(group, "prediction", np.where(labels < wrong, 9, labels))
            store.add_array(group, "confidence", np.full(8, 0.9, np.float32))


def test_layer_curves_show_every_threat_and_layer(results, tmp_path):
    found = drawn(results, "propagation", tmp_path)
    assert set(found) == {"figure2", "figure3"}
    for name, axis in (("figure2", "NE-D (by n)"), ("figure3", "COS-D")):
        words = texts(found[name])
        assert axis in words and words.count("layer") == 2  # one panel for each purifier
        assert {"patches, resnet18, none", "patches, resnet18, direct_gaussian"} <= set(words)
        assert words.count("transferred") == 2
        assert {str(place) for place in range(1, 7)} <= set(words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, segfault_file):
    """All of segfault's results, which no test changes."""
    config = copy.deepcopy(segfault_file) | {"seeds": [0, 1]}
    config["experiments"]["segfault"]["figures"].pop("table3")  # drawn as tables 4 and 5 are
    return Results(tmp_path_factory.mktemp("segfault"), config)


def test_figures_of_segfault(whole, tmp_path):
    found = drawn(whole, "segfault", tmp_path)
    assert set(found) == {"figure1", "figure2", "figure3", "table4", "table5"}
    words = {name: texts(figure) for name, figure in found.items()}
    assert {"clean", "image", "patches, cnn26, pixels, default"} <= set(words["figure1"])
    assert {f"output {number}" for number in range(10)} <= set(words["figure2"])
    assert "FGSM, eps=None" in words["figure1"] and "FGSM, eps=None" in words["figure2"]
    assert {"AUC, C&W, 10-D", "seconds for a batch", "pixel", "quickshift"} <= set(words["figure3"])
    for setting in ("scale=1000", "sigma=2 max_dist=20", "n_segments=64"):
        assert words["figure3"].count(setting) == 3  # seconds, passes, bytes
    assert {"Class0", "Class7", "n_segments=1: 1", "n_segments=128: 8"} <= set(words["table5"])


def test_of_several_epsilons_the_largest_is_shown_image_by_image(whole):
    inputs = whole.inputs("figures", "segfault", "figure1")
    iqr = read_stage("iqr", inputs["iqr"])
    frame = iqr.frame
    unit = 64.150024 / 255
    epsilons = np.array([0.02, 0.06, 0.1]) * unit
    attacked = frame["threat"] != "clean"
    frame["epsilon"] = np.where(attacked, epsilons[frame["id"] % 3], np.nan)
    frame = frame.sample(frac=1, random_state=0)
    (pair,) = detection._pairs(iqr.of(frame), "FGSM", 4)
    assert pair.label == "FGSM, eps=0.1" and len(pair.attacked) == 4
    assert list(pair.clean.index) == list(pair.attacked["id"])
    assert (pair.attacked["id"] % 3 == 2).all() and (pair.attacked["attack_point"] == "fgsm").all()
    assert set(pair.clean["threat"]) == {"clean"} and set(pair.attacked["seed"]) == {
        frame["seed"].iloc[0]
    }


def test_an_attack_that_was_not_made_is_told(whole):
    inputs = whole.inputs("figures", "segfault", "figure1")
    with pytest.raises(BadInput, match=r"no attack is printed 'FGSMs'; did you mean 'FGSM'\?"):
        detection.spread(read_stage("iqr", inputs["iqr"]), attack="FGSMs")


def test_the_trade_off_is_of_one_protocol_and_the_papers_detector(whole):
    inputs = whole.inputs("tables", "segfault", "claims")
    found = read_stage("detection", inputs["detection"])
    rows = detection._judged(found, "C&W", "probabilities").frame
    assert set(rows["protocol"]) == {"paper"} and set(rows["detector"]) == {"xgboost"}
    assert set(rows["threat"]) == {"cw@cnn26"} and set(rows["attribution"]) == {
        *("felzenszwalb", "quickshift", "slic", "pixels")
    }
    other = found.of(found.frame[found.frame["detector"] == "searched"])
    assert set(detection._judged(other, "FGSM", "hidden").frame["detector"]) == {"searched"}


def test_a_trade_off_without_costs_is_told(whole):
    inputs = whole.inputs("figures", "segfault", "figure3")
    found, cost = (read_stage(stage, inputs[stage]) for stage in ("detection", "cost"))
    elsewhere = cost.of(cost.frame.assign(dataset="digits"))
    with pytest.raises(BadInput, match="no setting has both scores and costs"):
        detection.tradeoff(found, elsewhere)


def test_superpixels_are_outlined_and_counted(whole):
    inputs = whole.inputs("figures", "segfault", "table5")
    (axis,) = superpixels.boundaries(inputs["examples"], method="slic", images=2).axes
    titles = [text.get_text() for text in axis.texts]
    settings = [f"n_segments={count}" for count in (32, 64, 128, 1)]
    expected = [
        ["Class0", *(f"{s}: 1" for s in settings)],
        ["Class1", *(f"{s}: 2" for s in settings)],
    ]
    assert titles == sum(expected, [])
    canvas = axis.images[0].get_array()
    first = canvas[40 : 40 + 192, :192]
    assert np.array_equal(first, canvas[40 : 40 + 192, 232 : 232 + 192])  # one segment: no border
    second = canvas[272 : 272 + 192, 232 : 232 + 192]
    assert ((second == (1, 1, 0)).all(axis=2).sum(axis=1) > 0).tolist() == [
        row == superpixels._SIZE for row in range(192)
    ]


def test_a_border_lies_between_labels():
    labels = np.array([[0, 0, 1], [0, 2, 1]])
    picture = superpixels._outlined(np.full((2, 3, 1), 0.5), labels)
    border = (picture == (1, 1, 0)).all(axis=-1)
    assert picture.shape == (12, 18, 3)
    expected = np.zeros((12, 18), bool)
    expected[:, 12] = True  # right of it label 1
    expected[6:, 6] = expected[6, 6:12] = True  # left of and above label 2
    assert np.array_equal(border, expected)
    assert (picture[~border] == 0.5).all()


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6, 6)])
def test_strips_show_what_became_of_the_images(results, tmp_path, shape):
    examples(results, shape)
    figure = drawn(results, "feature_losses", tmp_path)["figure1"]
    words = texts(figure)
    assert len(list(figure.iter(f"{SVG}image"))) == 2 * 3 * 6  # points, rows, images
    assert words.count("class9") == 2 * 2 and words.count("class5") == 2
    assert {"pgd@cnn4 direct_pgd", "pgd@cnn4 direct_pgd strong"} <= set(words)
    red = [e for e in figure.iter(f"{SVG}text") if "#ff0000" in e.get("style", "")]
    assert ["".join(element.itertext()) for element in red] == ["class9"] * 4


@pytest.mark.parametrize("paper", ["propagation", "segfault", "feature_losses"])
def test_the_same_inputs_give_the_same_bytes(results, whole, tmp_path, paper):
    if paper == "segfault":
        results = whole
    if paper == "feature_losses":
        examples(results)
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        drawn(results, paper, folder)
    assert list(first.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_an_unknown_measure_is_told_with_near_names(results, tmp_path):
    entry = {"function": "layers.curves", "settings": {"measure": "ned"}}
    with pytest.raises(BadInput, match=r"measure 'ned' is unknown; did you mean 'ne_d'"):
        drawn(results, "propagation", tmp_path, figures={"figure2": entry})


def test_every_paper_of_the_quick_scale_with_figures_is_drawn(quick_file):
    named = {paper for paper, entry in quick_file["experiments"].items() if "figures" in entry}
    assert named == {"propagation", "segfault", "feature_losses"}
