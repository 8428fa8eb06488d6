"""Figures of "propagation": panels, curves, the explorer, one look for each set."""

import re

import matplotlib.pyplot as plt
import pytest

from advdenoise.errors import BadInput
from advdenoise.reporting.labels import CLASSIFIERS
from advdenoise.reporting.read import read_stage
from experiments.propagation import figures
from tests.drawing import SVG, check_same_bytes, drawn, texts
from tests.fake_results import Results

CURVES = "experiments/propagation/figures.py:curves"
HREF = "{http://www.w3.org/1999/xlink}href"
SETS = ["FGSM v1", "FGSM v2", "i-FGSM v1", "i-FGSM v2", "mi-FGSM"]
# Of networks that are not printed by their models' names.
NETWORKS = {
    "explorer_densenet201_conv": "FC->Conv",
    "explorer_densenet201_prelu": "PReLU after FC",
}


@pytest.fixture
def results(tmp_path, quick):
    return Results(tmp_path / "files", quick)


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


def test_layer_curves_show_every_threat_and_layer(results, tmp_path):
    actual = drawn(results, "propagation", tmp_path)
    assert {"figure2", "figure3", "figure5", "figure6"} < set(actual)
    explorers = [name for name in actual if name.startswith("explorer_")]
    assert len(explorers) == 7
    for name in explorers:
        printed = CLASSIFIERS.get(name.removeprefix("explorer_"), NETWORKS.get(name))
        (title,) = (word for word in texts(actual[name]) if ", patches, n = 30" in word)
        assert title == f"{printed}, patches, n = 30; bars: 95 % intervals over images"
    for name, network in (("figure5", "FC->Conv"), ("figure6", "PReLU after FC")):
        titles = [word for word in texts(actual[name]) if word.endswith("w/o DN")]
        assert titles == [f"{network} w/o DN"] * 2
    for name, axis in (("figure2", "NE-D (by n)"), ("figure3", "COS-D")):
        words = texts(actual[name])
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
    actual = drawn(Results(tmp_path / "files", propagation), "propagation", tmp_path)
    words = {name: texts(figure) for name, figure in actual.items()}
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


def test_an_unknown_measure_is_told_with_near_names(results, tmp_path):
    entry = {
        "function": CURVES,
        "settings": {"measure": "ned"},
    }
    with pytest.raises(BadInput, match=r"measure 'ned' is unknown; did you mean 'ne_d'"):
        drawn(results, "propagation", tmp_path, figures={"figure2": entry})


def test_the_same_inputs_give_the_same_bytes(results, tmp_path):
    check_same_bytes(results, "propagation", tmp_path)


# ---------------------------------------------------------------- colours and markers


def signs(figure, part) -> list[tuple[str, str]]:
    """Colour and marker of the lines right below a part of a figure."""
    outlines = {path.get("id"): path.get("d") for path in figure.iter(f"{SVG}path")}
    result = []
    for line in part.findall(f"{SVG}g"):
        curve = line.find(f"{SVG}path")
        if line.get("id", "").startswith("line2d") and curve is not None:  # no caps of bars
            marker = line.find(f"{SVG}g/{SVG}use")
            (colour,) = {*re.findall(r"stroke: (#\w+)", curve.get("style") + marker.get("style"))}
            result.append((colour, outlines[marker.get(HREF)[1:]]))
    return result


def parts(figure, start: str) -> list:
    return [g for g in figure.iter(f"{SVG}g") if g.get("id", "").startswith(start)]


def legend(figure) -> dict:
    """The signs of a figure's one legend by their labels."""
    (part,) = parts(figure, "legend_")
    _, *labels = texts(part)  # without its title
    result = signs(figure, part)
    assert len(result) == len(labels)
    return dict(zip(labels, result, strict=True))


def test_a_set_has_one_colour_and_one_marker_in_all_panels(tmp_path, propagation):
    """Without a denoiser there is no curve of clean images, which shifts no other."""
    entries = propagation["experiments"]["propagation"]["figures"]
    for name in [name for name in entries if name.startswith("explorer")]:
        del entries[name]
    result = drawn(Results(tmp_path / "files", propagation), "propagation", tmp_path)
    assert set(result) == {"figure2", "figure3", "figure5"}
    (known,) = {tuple(legend(figure).items()) for figure in result.values()}
    assert [name for name, _ in known] == [*SETS, "clean"]
    known = dict(known)
    for kind in zip(*known.values(), strict=True):
        assert len(set(kind)) == len(known)
    for figure in result.values():
        panels = parts(figure, "axes_")
        assert len(panels) in (15, 6)
        for place, panel in enumerate(panels):
            shown = SETS if place % 3 == 0 else known  # the first column is without a denoiser
            assert sorted(signs(figure, panel)) == sorted(known[name] for name in shown)


def test_panels_and_sets_have_the_papers_order_whatever_that_of_the_results(tmp_path, propagation):
    results = Results(tmp_path / "files", propagation)
    result = read_stage(
        "distances", results.inputs("figures", "propagation", "figure5")["distances"]
    )
    shuffled = result.of(result.frame.iloc[::-1].reset_index(drop=True))
    figure = figures.curves(shuffled, measure="ne_d")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "FC->Conv w/o DN" and len(titles) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*SETS, "clean"]
    plt.close(figure)
