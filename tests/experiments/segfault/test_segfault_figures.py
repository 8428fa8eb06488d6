"""Figures of "segfault": what detectors see and cost, and borders of superpixels."""

import copy

import numpy as np
import pytest

from advdenoise.errors import BadInput
from advdenoise.reporting.read import read_stage
from experiments.segfault import figures
from tests.drawing import check_same_bytes, drawn, texts
from tests.fake_results import Results


@pytest.fixture(scope="module")
def whole(tmp_path_factory, segfault_file):
    """All of segfault's results, which no test changes."""
    config = copy.deepcopy(segfault_file) | {"seeds": [0, 1]}
    config["experiments"]["segfault"]["figures"].pop("table3")  # drawn as tables 4 and 5 are
    return Results(tmp_path_factory.mktemp("segfault"), config)


def test_figures_of_segfault(whole, tmp_path):
    result = drawn(whole, "segfault", tmp_path)
    assert set(result) == {"figure1", "figure2", "figure3", "table4", "table5"}
    words = {name: texts(figure) for name, figure in result.items()}
    assert {"clean", "image", "patches, cnn26, pixel (ML-LOO), n = 30"} <= set(words["figure1"])
    assert {f"output {number}" for number in range(10)} <= set(words["figure2"])
    for name in ("figure1", "figure2"):
        assert words[name].count("FGSM") == words[name].count("clean") == 1  # in one legend
    assert {"AUC, C&W, 10-D", "seconds for a batch (s)"} <= set(words["figure3"])
    assert [word for word in words["figure3"] if word.startswith("patches; cnn26; n = ")]
    settings = ["felzenszwalb scale=1000", "pixel (ML-LOO)", "quickshift sigma=2 max_dist=20"]
    settings += [f"slic n_segments={count}" for count in (32, 64, 128)]
    places = [words["figure3"].index(setting) for setting in settings]
    assert places == sorted(places) and words["figure3"].count(settings[0]) == 1
    assert "chance; below it clean images" in words["figure3"]
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
    (pair,) = figures._pairs(iqr.of(frame), "FGSM", 4)
    assert pair.label == "FGSM, epsilon = 0.1 z-score" and len(pair.attacked) == 4
    assert list(pair.clean.index) == list(pair.attacked["id"])
    assert (pair.attacked["id"] % 3 == 2).all() and (pair.attacked["attack_point"] == "fgsm").all()
    assert set(pair.clean["threat"]) == {"clean"} and set(pair.attacked["seed"]) == {
        frame["seed"].iloc[0]
    }


def test_an_attack_that_was_not_made_is_told(whole):
    inputs = whole.inputs("figures", "segfault", "figure1")
    with pytest.raises(BadInput, match=r"no attack is printed 'FGSMs'; did you mean 'FGSM'\?"):
        figures.spread(read_stage("iqr", inputs["iqr"]), attack="FGSMs")


def test_the_trade_off_is_of_one_protocol_and_the_papers_detector(whole):
    inputs = whole.inputs("tables", "segfault", "claims")
    result = read_stage("detection", inputs["detection"])
    rows = figures._selected(result, "C&W", "probabilities").frame
    assert set(rows["protocol"]) == {"paper"} and set(rows["detector"]) == {"xgboost"}
    assert set(rows["threat"]) == {"cw@cnn26"} and set(rows["attribution"]) == {
        *("felzenszwalb", "quickshift", "slic", "pixels")
    }
    other = result.of(result.frame[result.frame["detector"] == "searched"])
    assert set(figures._selected(other, "FGSM", "hidden").frame["detector"]) == {"searched"}


def test_a_trade_off_without_costs_is_told(whole):
    inputs = whole.inputs("figures", "segfault", "figure3")
    result, cost = (read_stage(stage, inputs[stage]) for stage in ("detection", "cost"))
    elsewhere = cost.of(cost.frame.assign(dataset="digits"))
    with pytest.raises(BadInput, match="no setting has both scores and costs"):
        figures.tradeoff(result, elsewhere)


def test_superpixels_are_outlined_and_counted(whole):
    inputs = whole.inputs("figures", "segfault", "table5")
    (axis,) = figures.boundaries(inputs["examples"], method="slic", images=2).axes
    titles = [text.get_text() for text in axis.texts]
    expected = [["Class0", "Class1"]]
    for count in (1, 32, 64, 128):
        expected.append([f"n_segments={count}: 1", f"n_segments={count}: 2"])
    assert titles == sum(expected, [])
    canvas = axis.images[0].get_array()
    first = canvas[40 : 40 + 192, :192]
    assert np.array_equal(first, canvas[272 : 272 + 192, :192])  # one segment: no border
    second = canvas[272 : 272 + 192, 232 : 232 + 192]
    assert ((second == (1, 1, 0)).all(axis=2).sum(axis=1) > 0).tolist() == [
        row == figures._SIZE for row in range(192)
    ]


def test_images_with_other_settings_stand_side_by_side(whole, monkeypatch):
    (file,) = whole.inputs("figures", "segfault", "table5")["examples"][:1]
    shown = figures.read_superpixels([file], "slic")[:2]
    fewer = [shown[0], shown[1]._replace(maps=shown[1].maps[:1])]
    monkeypatch.setattr(figures, "read_superpixels", lambda *_: fewer)
    (axis,) = figures.boundaries([file], method="slic").axes
    assert len(axis.texts) == 2 * 2 + 3


def test_a_border_lies_between_labels():
    labels = np.array([[0, 0, 1], [0, 2, 1]])
    picture = figures._outlined(np.full((2, 3, 1), 0.5), labels)
    border = (picture == (1, 1, 0)).all(axis=-1)
    assert picture.shape == (12, 18, 3)
    expected = np.zeros((12, 18), bool)
    expected[:, 12] = True  # right of it label 1
    expected[6:, 6] = expected[6, 6:12] = True  # left of and above label 2
    assert np.array_equal(border, expected)
    assert (picture[~border] == 0.5).all()


def test_the_same_inputs_give_the_same_bytes(whole, tmp_path):
    check_same_bytes(whole, "segfault", tmp_path)
