"""Figures of "APuDAE": whose errors and images are shown."""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest

from advdenoise.errors import BadInput
from advdenoise.reporting.read import read_stage
from advdenoise.reporting.sheet import CROSS
from experiments.apudae import figures
from tests.drawing import drawn, texts
from tests.fake_results import IMAGES, Results


@pytest.fixture(scope="module")
def results(tmp_path_factory, apudae_file):
    return Results(tmp_path_factory.mktemp("apudae"), copy.deepcopy(apudae_file))


def test_figures_of_apudae(results, tmp_path):
    result = drawn(results, "apudae", tmp_path)
    assert set(result) == {"figure2", "figure3a", "figure3b", "figure3c"}
    words = {name: texts(figure) for name, figure in result.items()}
    assert {"clean", "BIM", "apudae direct", "apudae f"} <= set(words["figure2"])
    assert "apudae g" not in words["figure2"] and "FGSM" not in words["figure2"]
    # As it is the first image is an airplane, attacked all are trucks, purified the first two.
    assert words["figure2"].count("airplane") == 1
    assert words["figure2"].count("truck") + words["figure2"].count(f"{CROSS} truck") == 8
    assert {"APuDAE (Direct)", "APuDAE(F)", "CIFAR-10; ResNet-18"} <= set(words["figure2"])
    error = "reconstruction error (sum of squared differences of pixels in [0,1])"
    for name, point in (("figure3a", "a12"), ("figure3b", "b"), ("figure3c", "d")):
        variant = f"APuDAE({point[0].upper()}) (apudae {point})"
        for when in ("before", "after"):
            assert f"CIFAR-10, {variant}, n = 30, {when} purification" in words[name]
        assert {"clean", "BIM", error, "images"} <= set(words[name])


def test_histograms_count_the_variants_errors_before_and_after(results):
    inputs = results.inputs("figures", "apudae", "figure3c")
    predictions = read_stage("predictions", inputs["predictions"])
    frame = predictions.frame
    frame["error_before"] = np.where(frame["threat"] == "clean", 1.0, 3.0)
    of_d = frame["purifier_point"] == "d"
    frame["error_after"] = np.where(of_d & (frame["attack_point"] == "bim"), 2.0, 0.5)
    figure = figures.errors(predictions, variant="D")
    before, after = figure.axes
    for axis, places in ((before, (1.0, 3.0)), (after, (0.5, 2.0))):
        outlines = [patch for patch in axis.patches if not patch.get_fill()]
        assert len(outlines) == len(places)
        for outline, place in zip(outlines, places, strict=True):
            x, y = outline.get_xy().T
            high = x[y == IMAGES]  # all images in one of eleven bins up to 3
            assert y.max() == IMAGES and high.min() <= place <= high.max() + 1e-9
            assert np.ptp(high) == pytest.approx(3.0 / 11)
    before.figure.canvas.draw()
    assert before.get_ylim() == after.get_ylim()
    plt.close(figure)


def test_an_attack_or_variant_that_was_not_met_is_told(results):
    inputs = results.inputs("figures", "apudae", "figure3a")
    predictions = read_stage("predictions", inputs["predictions"])
    with pytest.raises(BadInput, match=r"variant 'A' met 'BIN'; did you mean 'BIM'"):
        figures.errors(predictions, variant="A", attack="BIN")
    with pytest.raises(BadInput, match="no purifier of variant 'H' met 'BIM'$"):
        figures.errors(predictions, variant="H")
    examples = results.inputs("figures", "apudae", "figure2")["examples"]
    with pytest.raises(BadInput, match="no example images are under 'C&W'"):
        figures.strips(examples, attack="C&W")
