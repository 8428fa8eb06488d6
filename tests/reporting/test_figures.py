"""Figures that belong to no experiment, and pictures in rows and columns."""

import numpy as np
import pytest

from advdenoise.reporting import palette, sheet
from advdenoise.stages import figures
from tests.drawing import SVG, crossed, drawn, texts
from tests.fake_results import Results

SHOWN = {"dataset": "digits", "classifier": "cnn4", "split": "test"}


def test_a_file_without_a_figure_is_refused(tmp_path):
    settings = {"experiment": "x", "figures": {"figure1": {}}, "inputs": {}}
    for names in (["figure2"], ["figure1", "figure2"], ["figure1", "figure1"], []):
        with pytest.raises(RuntimeError, match="must be a file for each of"):
            figures.run(settings, [tmp_path / f"{name}.svg" for name in names], [])


def with_strips(quick, entry: dict) -> dict:
    """The quick scale with an attack of two points and an experiment of one figure."""
    quick["attacks"]["varied"] = {
        "points": {
            "weak": {"function": "gradient.fgsm", "settings": {"epsilon": 0.1}},
            "strong": {"function": "gradient.fgsm", "settings": {"epsilon": 0.2}},
        }
    }
    quick["examples"] = {"images": 8}
    quick["experiments"]["mine"] = {"figures": {"strips": entry}}
    return quick


@pytest.mark.parametrize("world", [("digits", "cnn4"), ("patches", "cnn26")])
def test_strips_show_what_became_of_the_images(tmp_path, quick, world):
    dataset, classifier = world
    shown = {**SHOWN, "dataset": dataset, "classifier": classifier, "threat": "varied"}
    entry = {"function": "examples.strips", "examples": {**shown, "purifier": "none"}}
    results = Results(tmp_path / "files", with_strips(quick, entry))
    figure = drawn(results, "mine", tmp_path)["strips"]
    words = texts(figure)
    assert len(list(figure.iter(f"{SVG}image"))) == 2 * 3 * 6  # points, rows, images
    assert words.count(f"{sheet.CROSS} class9") == 2 * 2 and words.count("class5") == 2
    titles = {f"varied@{classifier} none {point}" for point in ("weak", "strong")}
    assert titles <= set(words)
    assert crossed(figure) == ["class9"] * 4


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
