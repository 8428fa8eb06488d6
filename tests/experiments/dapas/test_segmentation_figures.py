"""Figures of "DAPAS": masks in their colours, pairs of images that belong together, and curves."""

import copy
import json

import numpy as np
import pytest

from advdenoise.errors import BadInput
from advdenoise.reporting.examples import read_dense_examples, read_examples
from advdenoise.reporting.palette import colour, coloured
from advdenoise.reporting.read import read_stage
from experiments.dapas import figures
from tests.drawing import drawn, texts
from tests.fake_results import SIDES, Results

BUDGETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)


@pytest.fixture(scope="module")
def results(tmp_path_factory, dapas_file):
    """All of dapas' results, which no test changes."""
    return Results(tmp_path_factory.mktemp("dapas"), copy.deepcopy(dapas_file) | {"seeds": [0, 1]})


def files(results, figure: str, stage: str):
    return results.inputs("figures", "dapas", figure)[stage]


def test_figures_of_dapas(results, tmp_path):
    result = drawn(results, "dapas", tmp_path)
    assert set(result) == {f"figure{number}" for number in (1, 4, 5, 6, 7, 8)}
    words = {name: texts(figure) for name, figure in result.items()}
    # Two images: four pictures each, of one replicate and the largest budget.
    assert words["figure1"].count("prediction") == 4
    assert words["figure1"].count("I-FGSM, epsilon = 0.032") == 2
    assert {"class0", "class2"} <= set(words["figure1"])
    assert not {"class1", "class3"} & set(words["figure1"])  # neither true nor purified masks
    assert {"class0", "class2", "class3"} <= set(words["figure6"])
    assert {"FGSM, epsilon = 0.032", "I-FGSM, epsilon = 0.032", "after DAPAS"} <= set(
        words["figure6"]
    )
    assert words["figure4"].count("corrupted gaussian") == 2  # images; below it the purifier
    assert words["figure4"].count("dapas_gaussian") == 2
    assert {
        "Gaussian (sigma 0.004)",
        "Uniform (epsilon 0.035)",
        "Bimodal (mode 0.024, sigma 0.004)",
    } <= set(words["figure5"])
    for figure, attack in (("figure7", "FGSM"), ("figure8", "I-FGSM")):
        assert f"VOC2012, deeplab, {attack}, n = 30" in words[figure]
        assert "epsilon (pixels in [0,1])" in words[figure]
        legend = {"no defence", "Gaussian", "Bimodal", "Bimodal, adaptive"}
        legend |= {"no defence, published (VOC2012)", "Uniform, published (VOC2012)"}
        assert legend <= set(words[figure])
        assert "no defence, adaptive" not in words[figure]


# ---------------------------------------------------------------- masks


def test_the_first_labels_have_the_palettes_colours_and_the_last_pascal_vocs():
    """On a scale of 255; VOC's are those of its own tables."""
    expected = {
        0: (0, 0, 0),
        1: (0, 114, 178),
        2: (230, 159, 0),
        7: (240, 228, 66),
        24: (64, 64, 0),
        255: (224, 224, 192),
    }
    for label, levels in expected.items():
        assert tuple(255 * level for level in colour(label)) == pytest.approx(levels)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert len(np.unique(coloured(labels).reshape(256, 3), axis=0)) == 256


# What is seen without the cones of long or of middle waves, of linear RGB (Machado, Oliveira,
# Fernandes: "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009).
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216]]
PROTANOPIA += [[-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413]]
DEUTERANOPIA += [[-0.011820, 0.042940, 0.968881]]


def nearest(colours: np.ndarray, vision: list) -> float:
    """The least difference between any two colours [K,3] as seen with one kind of vision."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    pictures = (linear @ np.transpose(vision)).clip(0, 1)
    pictures = np.where(
        pictures <= 0.0031308, 12.92 * pictures, 1.055 * pictures ** (1 / 2.4) - 0.055
    )
    apart = np.linalg.norm(pictures[:, None] - pictures[None], axis=2)
    return apart[np.triu_indices(len(pictures), 1)].min()


@pytest.mark.parametrize("vision", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
def test_readers_with_any_colour_vision_tell_the_first_labels_apart(vision):
    assert nearest(np.array([colour(label) for label in range(8)]), vision) > 0.18


def test_an_attacked_image_stands_beside_the_clean_one_with_both_masks(results):
    """Of images 33x65 a tile is 112 wide; the attack darkens, the mask's left half is class 2."""
    scenes = read_dense_examples(files(results, "figure1", "examples"))
    clean = next(s for s in scenes if s.attack is None)
    figure = figures.attacked(files(results, "figure1", "examples"), images=1)
    canvas = figure.axes[0].images[0].get_array()
    top = canvas.shape[0] - 112
    tiles = [canvas[top:, left : left + 112] for left in range(0, canvas.shape[1], 118)]
    assert len(tiles) == 4
    height = round(112 * SIDES[0] / SIDES[1])
    assert np.allclose(tiles[0][0, 0], clean.images[0, 0, 0])
    assert np.allclose(tiles[2][:height], 0.9 * tiles[0][:height], atol=1e-6)
    for tile in (tiles[1], tiles[3]):
        assert np.allclose(tile[0, 0], colour(2)) and np.allclose(tile[0, -1], colour(0))
        assert np.allclose(tile[height:], 1)  # wide images end above the tile's


def test_the_grid_has_four_rows_for_an_image(results):
    figure = figures.grid(files(results, "figure6", "examples"), attacks=["I-FGSM to 1"])
    names = [text.get_text() for text in figure.axes[0].texts]
    shown = [name for name in names if name]
    assert shown == [
        "image",
        "clean",
        "I-FGSM to 1, epsilon = 0.032",
        "prediction",
        "after DAPAS",
        "prediction\nafter DAPAS",
    ]
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape[1] == 2 * 118 - 6
    last = canvas[-112:]
    assert np.allclose(last[0, 0], colour(3)) and np.allclose(last[0, 118], colour(3))


def test_noise_is_rated_in_decibels(results):
    """A fifth of the noise is an error of 1 / 25: 14 dB."""
    assert figures._rated("noisy", np.full((2, 2, 3), 0.7), np.full((2, 2, 3), 0.5)) == (
        "noisy, 14.0 dB"
    )
    assert figures._rated("clean", np.ones((2, 2, 3)), np.ones((2, 2, 3))) == "clean"
    figure = figures.denoised(files(results, "figure4", "examples"), images=1)
    titles = [text.get_text() for text in figure.axes[0].texts]
    named = ["Gaussian noise\ncorrupted gaussian\ndapas_gaussian"]
    named += [f"corrupted {point}\ndapas_gaussian" for point in ("blur", "jpeg")]
    assert sorted(title for title in titles if title in named) == named
    words = [title.partition(",")[0] for title in titles]
    assert [words.count(word) for word in ("clean", "noisy", "denoised")] == [3, 3, 6]


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda shown: figures.attacked(shown, attack="I-FGSMs"), "did you mean 'I-FGSM'"),
        (lambda shown: figures.denoised(shown), "no example images are noisy"),
        (lambda shown: figures.grid(shown[1:]), "no clean example images of voc2012"),
        (lambda shown: figures.attacked(shown[1:]), "no clean example images of voc2012"),
    ],
)
def test_what_is_not_there_is_told(results, draw, reason):
    one = [path for path in files(results, "figure1", "examples") if "seed0" in str(path)]
    assert "clean" in str(one[0])
    with pytest.raises(BadInput, match=reason):
        draw(one)


def test_a_noise_that_was_not_made_is_told(results):
    shown = files(results, "figure4", "examples")
    with pytest.raises(BadInput, match="'corrupted blurs'; did you mean 'corrupted blur'"):
        figures.denoised(shown, noise="corrupted blurs")


def test_images_with_labels_are_no_scenes(results, tmp_path, own):
    labels = Results(tmp_path, own).inputs("figures", "mine", "strips")["examples"]
    with pytest.raises(BadInput, match="holds images with labels, but the figure shows some with"):
        read_dense_examples(labels)
    with pytest.raises(BadInput, match="holds images with masks"):
        read_examples(files(results, "figure1", "examples"))


# ---------------------------------------------------------------- curves


@pytest.mark.parametrize(
    "settings", [{"epsilon": 0.035}, {"sigma": 0.004}, {"mode": 0.024, "sigma": 0.004}]
)
def test_a_density_has_an_area_of_one_and_the_noises_spread(settings):
    reach = 2 * figures._reach(settings)
    values = np.linspace(-reach, reach, 200_001)
    density = figures._density(values, **settings)
    step = values[1] - values[0]
    assert density.sum() * step == pytest.approx(1, abs=1e-3)
    variance = (density * values**2).sum() * step
    if "epsilon" in settings:
        expected = settings["epsilon"] ** 2 / 3
    else:
        expected = settings.get("mode", 0) ** 2 + settings["sigma"] ** 2
    assert variance == pytest.approx(expected, rel=1e-3)
    if "mode" in settings:
        assert abs(values[density.argmax()]) == pytest.approx(0.024, abs=1e-5)


def test_curves_show_what_the_tables_hold(results):
    inputs = files(results, "figure8", "predictions")
    result = read_stage("predictions", inputs)
    (axis,) = figures.ratios(result, attack="I-FGSM").axes
    curves = {bars.get_label(): bars.lines[0] for bars in axis.containers}
    for name in ("no defence", "Gaussian", "Uniform, adaptive"):  # beside each other
        assert tuple(curves[name].get_xdata()) == pytest.approx(BUDGETS, rel=0.15)
    assert len({curve.get_xdata()[0] for curve in curves.values()}) == len(curves)
    crosses = [line for line in axis.get_lines() if line.get_marker() == "x"]
    for name in ("Gaussian", "Uniform", "Bimodal"):  # one colour each, and one marker
        (published,) = (line for line in crosses if line.get_label().startswith(f"{name}, publ"))
        plain, adaptive = curves[name], curves[f"{name}, adaptive"]
        assert plain.get_color() == adaptive.get_color() == published.get_color()
        assert plain.get_marker() == adaptive.get_marker()
    assert len({line.get_color() for line in crosses}) == 4
    printed = {tuple(line.get_ydata()) for line in crosses}
    assert (64.8, 44.0, 31.8, 24.2, 19.6, 13.1) in printed  # Table II
    assert (88.9, 82.6, 78.7, 76.1, 74.3, 68.7)[2:] in {values[2:] for values in printed}
    with pytest.raises(BadInput, match="no attack is printed 'FGMS'; did you mean 'FGSM'"):
        figures.ratios(result, attack="FGMS")


def test_without_noise_there_is_no_density(results):
    result = read_stage("predictions", files(results, "figure5", "predictions"))
    plain = result.of(result.frame[result.frame["purifier"] == "none"])
    with pytest.raises(BadInput, match="no denoiser was trained on noise"):
        figures.densities(plain)


def test_one_replicate_is_shown(results):
    settings = json.loads(json.dumps(results.flow.job("figures", {"experiment": "dapas"}).settings))
    assert len(settings["inputs"]["figure4"]["examples"]) == 4  # two replicates of two threats
    figure = figures.denoised(
        files(results, "figure4", "examples"), noise="corrupted jpeg", images=3
    )
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles.count("corrupted jpeg\ndapas_gaussian") == 3
