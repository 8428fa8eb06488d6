"""Figures: valid SVG, the same bytes twice, with what they are to show."""

import copy
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from advdenoise.errors import BadInput
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.reporting import labels, palette, sheet
from advdenoise.reporting.read import read_stage
from advdenoise.stages import figures
from experiments.feature_losses import figures as examples
from experiments.segfault import figures as detection
from experiments.segfault import figures as superpixels
from tests.fake_results import Results

CURVES = "experiments/propagation/figures.py:curves"
TARGETED = "experiments/feature_losses/figures.py:targeted"
FEATURE_NOISE = "experiments/feature_losses/figures.py:feature_noise"

SVG = "{http://www.w3.org/2000/svg}"
TITLE = "{http://purl.org/dc/elements/1.1/}title"


@pytest.fixture
def results(tmp_path, quick):
    return Results(tmp_path / "files", quick)


def drawn(results, paper: str, output: Path, **changes) -> dict[str, ElementTree.Element]:
    """The figures of a paper by name, as the stage draws them from what the rule hands over."""
    settings = json.loads(results.flow.settings("figures", experiment=paper)(None))
    job = results.flow.job("figures", {"experiment": paper})
    files = [results.make(file) for file in job.inputs["files"]]
    settings |= changes
    names = [name for name in results.flow.figures(paper) if name in settings["figures"]]
    paths = {name: output / f"{name}.svg" for name in names}
    figures.run(settings, list(paths.values()), files)
    found = {name: ElementTree.parse(path).getroot() for name, path in paths.items()}
    for name, figure in found.items():
        assert figure.findtext(f".//{TITLE}") == f"{paper}: {name}"
    return found


def texts(figure: ElementTree.Element) -> list[str]:
    """All texts: they stay texts, so that a report can be searched."""
    return ["".join(element.itertext()).strip() for element in figure.iter(f"{SVG}text")]


def test_each_file_holds_the_figure_of_its_name(tmp_path, propagation):
    """Whatever the order of the names: settings come sorted, files as configured."""
    measures = {"zeta": "ne_d", "figure10": "ne_d_sqrt", "figure9": "cos_d", "0_first": "ne_d"}
    entries = propagation["experiments"]["propagation"]["figures"]
    distances = entries["figure5"]["distances"]
    entries.clear()
    for name, measure in measures.items():
        settings = {"measure": [measure, "cos_d"] if name == "0_first" else measure}
        entries[name] = {
            "function": CURVES,
            "settings": settings,
            "distances": distances,
        }
    results = Results(tmp_path / "files", propagation)
    assert list(results.flow.figures("propagation")) == list(measures) != sorted(measures)
    figures = drawn(results, "propagation", tmp_path)
    axes = {"NE-D (by n)", "NE-D (by the root of n)", "COS-D"}
    assert {name: axes & {*texts(figure)} for name, figure in figures.items()} == {
        "zeta": {"NE-D (by n)"},
        "figure10": {"NE-D (by the root of n)"},
        "figure9": {"COS-D"},
        "0_first": {"NE-D (by n)", "COS-D"},
    }


def test_a_file_without_a_figure_is_refused(tmp_path):
    settings = {"experiment": "x", "figures": {"figure1": {}}, "inputs": {}}
    for names in (["figure2"], ["figure1", "figure2"], ["figure1", "figure1"], []):
        with pytest.raises(RuntimeError, match="must be a file for each of"):
            figures.run(settings, [tmp_path / f"{name}.svg" for name in names], [])


# Of networks that are not printed by their models' names.
NETWORKS = {
    "explorer_densenet201_conv": "FC->Conv",
    "explorer_densenet201_prelu": "PReLU after FC",
}


def test_layer_curves_show_every_threat_and_layer(results, tmp_path):
    found = drawn(results, "propagation", tmp_path)
    assert {"figure2", "figure3", "figure5", "figure6"} < set(found)
    explorers = [name for name in found if name.startswith("explorer_")]
    assert len(explorers) == 7
    for name in explorers:
        printed = labels.CLASSIFIERS.get(name.removeprefix("explorer_"), NETWORKS.get(name))
        (title,) = (word for word in texts(found[name]) if ", patches, n = 30" in word)
        assert title == f"{printed}, patches, n = 30; bars: 95 % intervals over images"
    for name, network in (("figure5", "FC->Conv"), ("figure6", "PReLU after FC")):
        titles = [word for word in texts(found[name]) if word.endswith("w/o DN")]
        assert titles == [f"{network} w/o DN"] * 2
    for name, axis in (("figure2", "NE-D (by n)"), ("figure3", "COS-D")):
        words = texts(found[name])
        assert words.count(axis) == words.count("layer") == 15  # networks and denoisers
        assert {"ResNet V2-50 w/o DN", "VGG-19 w/ FN", "DenseNet-201 w/ UN"} <= set(words)
        assert words.count("i-FGSM v2") == 1  # one legend for all
        assert {
            "1 stem",
            "8 fc",
            "2 transition1",
            "patches, n = 30; bars: 95 % intervals over images",
        } <= set(words)


def test_figures_of_propagation(tmp_path, propagation):
    found = drawn(Results(tmp_path / "files", propagation), "propagation", tmp_path)
    words = {name: texts(figure) for name, figure in found.items()}
    assert {"VGG-19 w/ FN", "DenseNet-201 w/ UN", "FGSM v2", "mi-FGSM"} <= set(words["figure2"])
    assert words["figure2"].count("NE-D (by n)") == words["figure3"].count("COS-D") == 15
    assert words["figure5"].count("FC->Conv w/ UN") == 2
    assert {"1 stem", "4 head.fc", "TinyImageNet, n = 30; bars: 95 % intervals over images"} <= {
        *words["figure2"]
    }
    assert {"NE-D (by n)", "COS-D"} <= set(words["figure5"])
    judged = words["explorer_cnn26"]
    assert {"accuracy in [0,1]", "score xgboost pixels"} <= set(judged)
    assert "cnn26, patches, n = 30; bars: 95 % intervals over images" in judged
    for name in ("set", "clean", "bim", "bim+", "denoiser", "w/o DN", "w/ direct_red"):
        assert judged.count(name) == 1  # one entry for each set and each denoiser
    assert judged.count("COS-D at the last layer") == 2
    # No detector was asked about the other network.
    assert "accuracy in [0,1]" in words["explorer_vgg19"]
    assert not [word for word in words["explorer_vgg19"] if word.startswith("score")]


def test_an_explorer_of_another_classifier_is_told(tmp_path, propagation):
    entry = propagation["experiments"]["propagation"]["figures"]["explorer_cnn26"]
    propagation["experiments"]["propagation"]["figures"] = {"explorer": entry}
    entry["settings"] = {"classifier": "vgg"}
    with pytest.raises(BadInput, match="no distances of classifier 'vgg'; did you mean 'vgg19'"):
        drawn(Results(tmp_path / "files", propagation), "propagation", tmp_path)


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
    (pair,) = detection._pairs(iqr.of(frame), "FGSM", 4)
    assert pair.label == "FGSM, epsilon = 0.1 z-score" and len(pair.attacked) == 4
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
    expected = [["Class0", "Class1"]]
    for count in (1, 32, 64, 128):
        expected.append([f"n_segments={count}: 1", f"n_segments={count}: 2"])
    assert titles == sum(expected, [])
    canvas = axis.images[0].get_array()
    first = canvas[40 : 40 + 192, :192]
    assert np.array_equal(first, canvas[272 : 272 + 192, :192])  # one segment: no border
    second = canvas[272 : 272 + 192, 232 : 232 + 192]
    assert ((second == (1, 1, 0)).all(axis=2).sum(axis=1) > 0).tolist() == [
        row == superpixels._SIZE for row in range(192)
    ]


def test_images_with_other_settings_stand_side_by_side(whole, monkeypatch):
    (file,) = whole.inputs("figures", "segfault", "table5")["examples"][:1]
    shown = superpixels.read_examples([file], "slic")[:2]
    fewer = [shown[0], shown[1]._replace(maps=shown[1].maps[:1])]
    monkeypatch.setattr(superpixels, "read_examples", lambda *_: fewer)
    (axis,) = superpixels.boundaries([file], method="slic").axes
    assert len(axis.texts) == 2 * 2 + 3


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


def changed(quick, **experiment) -> dict:
    """The quick scale with a targeted attack, maps and other figures of feature_losses."""
    quick["attacks"]["to_three"] = {
        "function": "gradient.bim",
        "settings": {"epsilon": 0.2, "alpha": 0.1, "steps": 10},
        "labels": {"target": 3},
    }
    quick["attacks"]["varied"] = {
        "points": {
            "weak": {"function": "gradient.fgsm", "settings": {"epsilon": 0.1}},
            "strong": {"function": "gradient.fgsm", "settings": {"epsilon": 0.2}},
        }
    }
    quick["examples"] = {"images": 8, "maps": {"cnn4": ["layers.0", "layers.3"]}}
    quick["experiments"]["feature_losses"]["figures"] = experiment
    return quick


SHOWN = {"dataset": "digits", "classifier": "cnn4", "split": "test"}


@pytest.mark.parametrize("world", [("digits", "cnn4"), ("patches", "cnn26")])
def test_strips_show_what_became_of_the_images(tmp_path, quick, world):
    dataset, classifier = world
    shown = {**SHOWN, "dataset": dataset, "classifier": classifier, "threat": "varied"}
    entry = {"function": "examples.strips", "examples": {**shown, "purifier": "none"}}
    results = Results(tmp_path / "files", changed(quick, strips=entry))
    figure = drawn(results, "feature_losses", tmp_path)["strips"]
    words = texts(figure)
    assert len(list(figure.iter(f"{SVG}image"))) == 2 * 3 * 6  # points, rows, images
    assert words.count(f"{sheet.CROSS} class9") == 2 * 2 and words.count("class5") == 2
    titles = {f"varied@{classifier} none {point}" for point in ("weak", "strong")}
    assert titles <= set(words)
    assert crossed(figure) == ["class9"] * 4


def crossed(figure: ElementTree.Element) -> list[str]:
    """What is marked as wrong, by its colour and by a cross."""
    words = {"".join(e.itertext()): e.get("style", "") for e in figure.iter(f"{SVG}text")}
    for word, style in words.items():
        assert word.startswith(f"{sheet.CROSS} ") == (palette.WRONG.lower() in style.lower())
    result = [word for word in texts(figure) if word.startswith(f"{sheet.CROSS} ")]
    return [word.removeprefix(f"{sheet.CROSS} ") for word in result]


def test_a_targeted_attack_is_shown_class_by_class_behind_every_purifier(tmp_path, quick):
    crossing = {**SHOWN, "threat": "to_three", "purifier": ["none", "direct_fgsm", "direct_pgd"]}
    entry = {
        "function": TARGETED,
        "examples": crossing,
        "settings": {"images": 5},
    }
    quick["seeds"] = [0, 1]
    all_classes = {**entry, "settings": {}}
    quick = changed(quick, figure1=entry, all_classes=all_classes)
    quick["examples"]["images"] = 14
    results = Results(tmp_path / "files", quick)
    found = drawn(results, "feature_losses", tmp_path)
    figure, words = found["figure1"], texts(found["figure1"])
    assert crossed(found["all_classes"]).count("class3 99.5 %") == 9  # all but its own
    for name in ("clean", "to_three", "direct_fgsm", "direct_pgd"):
        assert words.count(name) == 1  # one replicate, the clean rows once
    bare = [word.removeprefix(f"{sheet.CROSS} ") for word in words]
    assert bare.count("class3 99.5 %") == 5
    assert bare.count("class3 75.0 %") == 2 * 3 and bare.count("class4 75.0 %") == 2
    assert {"BIM to class3", "digits; cnn4"} <= set(words) and words.count("denoised") == 2
    # The image that is of the target's class is right.
    assert sorted(crossed(figure)) == sorted(["class3 99.5 %"] * 4 + ["class3 75.0 %"] * 4)


def test_where_another_class_is_predicted_the_target_is_named():
    shares = np.array([[0.7, 0.1, 0.2], [0.0, 0.1, 0.9]])
    seen = examples.Seen(
        images=np.zeros((2, 4, 4, 1)),
        labels=np.array([0, 1]),
        classes=["a", "b", "c"],
        target=2,
        seen=np.zeros((2, 4, 4, 1)),
        purified=np.zeros((2, 4, 4, 1)),
        seen_probabilities=shares,
        prediction=np.array([0, 1]),
        confidence=np.ones(2),
        maps={},
        about={},
    )
    assert [(t.title, t.wrong) for t in examples._as_seen(seen)] == [
        ("a (c: 20.0 %)", False),
        ("c 90.0 %", True),
    ]
    untargeted = examples._as_seen(seen._replace(target=None))
    assert [tile.title for tile in untargeted] == ["a 70.0 %", "c 90.0 %"]


def test_feature_noise_stands_channel_by_channel(tmp_path, quick):
    crossing = {**SHOWN, "threat": ["to_three"], "purifier": ["none", "direct_pgd"]}
    entry = {
        "function": FEATURE_NOISE,
        "examples": crossing,
    }
    results = Results(tmp_path / "files", changed(quick, figure3=entry))
    figure = drawn(results, "feature_losses", tmp_path)["figure3"]
    words = texts(figure)
    assert words.count("clean") == words.count("adversarial") == words.count("difference x 4") == 2
    assert words.count("purified") == 1 and words.count("class0") == 2
    for module in ("layers.0", "layers.3"):
        assert all(words.count(f"{module}, channel {channel}") == 2 for channel in (5, 2, 0, 7))
    (file, _) = results.inputs("figures", "feature_losses", "figure3")["examples"]
    with open_hdf5(file) as stored:
        maps = {name: stored[f"default/default/maps/layers.3/{name}"][0, 1] for name in VERSIONS}
    extent = np.ptp([maps["clean"], maps["seen"]])
    change = 100 * np.abs(maps["seen"] - maps["clean"]).mean() / extent
    assert f"{change:.1f} %" in words
    (seen, *_) = examples.read_seen([file])
    rows = examples._noise(seen, 0)
    assert [row.name for row in rows] == ["clean", "adversarial", "difference x 4"]
    clean, attacked, difference = (row.tiles[6].picture for row in rows)
    assert min(clean.min(), attacked.min()) == 0 and max(clean.max(), attacked.max()) == 1
    assert np.allclose(difference, 4 * abs(attacked - clean))
    assert np.allclose(clean * extent + min(map(np.min, maps.values())), maps["clean"], atol=1e-6)


VERSIONS = ("clean", "seen")


def test_maps_that_are_not_stored_are_told(tmp_path, quick):
    crossing = {**SHOWN, "threat": "clean", "purifier": "none"}
    entry = {
        "function": FEATURE_NOISE,
        "examples": crossing,
    }
    results = Results(tmp_path / "files", changed(quick, figure3=entry))
    with pytest.raises(BadInput, match=r"examples\.maps: these images have no maps"):
        drawn(results, "feature_losses", tmp_path)


def test_a_sheet_enlarges_its_tiles_without_smoothing():
    coloured = np.zeros((2, 4, 3))
    coloured[0, 1] = (1, 0, 0.5)
    rows = [
        sheet.Row("a", [sheet.Tile(np.eye(2)), sheet.Tile(coloured, "two", True)]),
        sheet.Row("b", [sheet.Tile(np.full((7, 7, 1), 2.0))]),
    ]
    (axis,) = sheet.sheet(rows).axes
    (canvas,) = (image.get_array() for image in axis.images)
    side, gap, title = sheet.SIDE, sheet._GAP, sheet._TITLE
    assert canvas.shape == (title + side + gap + side, 2 * side + gap, 3)
    first = canvas[title : title + side, :side]
    assert (first[: side // 2, : side // 2] == 1).all() and (
        first[: side // 2, side // 2 :] == 0
    ).all()
    second = canvas[title : title + side // 2, side + gap :]
    assert (second[: side // 4, side // 4 : side // 2] == (1, 0, 0.5)).all()
    assert (canvas[title + side + gap :, :side] == 1).all()  # clipped
    assert (canvas[:title] == 1).all()
    assert {text.get_text(): text.get_color() for text in axis.texts if text.get_text()} == {
        "a": "black",
        f"{sheet.CROSS} two": palette.WRONG,
        "b": "black",
    }


@pytest.mark.parametrize("paper", ["propagation", "segfault", "feature_losses"])
def test_the_same_inputs_give_the_same_bytes(results, whole, tmp_path, feature_losses, paper):
    if paper == "segfault":
        results = whole
    if paper == "feature_losses":
        results = Results(tmp_path / "whole", feature_losses)
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        drawn(results, paper, folder)
    assert list(first.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_an_unknown_measure_is_told_with_near_names(results, tmp_path):
    entry = {
        "function": CURVES,
        "settings": {"measure": "ned"},
    }
    with pytest.raises(BadInput, match=r"measure 'ned' is unknown; did you mean 'ne_d'"):
        drawn(results, "propagation", tmp_path, figures={"figure2": entry})


def test_every_paper_of_the_quick_scale_with_figures_is_drawn(quick_file):
    named = {paper for paper, entry in quick_file["experiments"].items() if "figures" in entry}
    assert named == {"dapas", "propagation", "segfault", "feature_losses", "apudae"}


def test_figures_of_feature_losses(tmp_path, feature_losses):
    found = drawn(Results(tmp_path / "files", feature_losses), "feature_losses", tmp_path)
    words = {name: texts(figure) for name, figure in found.items()}
    assert {"to_zero", "features_pgd", "class0 99.5 %", "class9"} <= set(words["figure1"])
    assert words["figure1"].count(f"{sheet.CROSS} class0 99.5 %") == 9  # all but its own
    assert crossed(found["figure2"]).count("truck 99.5 %") == 9 and "to_truck" in words["figure2"]
    assert {"layers.0, channel 5", "layers.3, channel 7", "purified", "difference x 4"} <= set(
        words["figure3"]
    )
