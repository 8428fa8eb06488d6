"""Figures: valid SVG, the same bytes twice, with what they are to show."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from scripts.advdenoise import store
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.stages import figures
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


def test_iqr_are_shown_for_clean_and_adversarial_images(results, tmp_path):
    words = texts(drawn(results, "segfault", tmp_path)["figure1"])
    assert {"clean", "z_score@cnn26 fgsm", "z_score@cnn26 pgd", "image"} <= set(words)
    assert "digits, cnn26, pixels, default" in words


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
def test_the_same_inputs_give_the_same_bytes(results, tmp_path, paper):
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
