"""Colours and markers: those of a set are the same in all panels and figures of an experiment."""

import itertools
import re

import matplotlib.pyplot as plt

from advdenoise.reporting.palette import Styles
from advdenoise.reporting.read import read_stage
from experiments.propagation import figures as layers
from tests.fake_results import Results
from tests.reporting.test_figures import SVG, drawn, texts

HREF = "{http://www.w3.org/1999/xlink}href"
SETS = ["FGSM v1", "FGSM v2", "i-FGSM v1", "i-FGSM v2", "mi-FGSM"]


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
    figures = propagation["experiments"]["propagation"]["figures"]
    for name in [name for name in figures if name.startswith("explorer")]:
        del figures[name]
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


def test_styles_do_not_depend_on_what_else_is_drawn():
    first, second = Styles(), Styles()
    for name in ("a", "mi-FGSM", "b"):
        first.of(name)
    assert all(first.of(name) == second.of(name) for name in [*SETS, "clean"])
    assert first.of("b") == first.of("b") != first.of("a")


def test_no_two_of_forty_names_look_the_same():
    styles = Styles()
    names = [*SETS, "clean", *map(str, range(36))]
    for one, other in itertools.combinations(names, 2):
        assert styles.of(one) != styles.of(other)
    assert {styles.of(name).colour for name in names if name != "clean"}.isdisjoint({"#000000"})


def test_panels_and_sets_have_the_papers_order_whatever_that_of_the_results(tmp_path, propagation):
    results = Results(tmp_path / "files", propagation)
    result = read_stage(
        "distances", results.inputs("figures", "propagation", "figure5")["distances"]
    )
    shuffled = result.of(result.frame.iloc[::-1].reset_index(drop=True))
    figure = layers.curves(shuffled, measure="ne_d")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "FC->Conv w/o DN" and len(titles) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*SETS, "clean"]
    plt.close(figure)
