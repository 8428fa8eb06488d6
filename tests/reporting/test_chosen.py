"""The table of candidates against the choices that it reads."""

import csv

import pytest

from advdenoise.graph.choices import published_number
from advdenoise.io.json_files import write_json
from advdenoise.reporting import write
from advdenoise.reporting.labels import Labels
from advdenoise.reporting.tables import chosen
from advdenoise.statistics import wilson

PRIMARY = {"published": "tests/published.csv", "row": "line search", "column": "Primary"}
LABELS = Labels(sets={("stopped.line_search", True): "FGSM v1"})


def measured(mean: float) -> dict:
    return {"mean": mean, "deviation": 0.2, "images": 16}


@pytest.fixture
def files(tmp_path):
    point = {"function": "stopped.line_search", "settings": {}}
    common = {"seed": 0, "victim": {"name": "cnn"}}
    attack = common | {
        "dataset": "tiny_imagenet",
        "split": "train",
        "kind": "attacks",
        "entry": "line",
        "threat": "line@cnn",
        "attack": {"name": "line", "points": {"default": point}},
    }
    candidates = [
        {"value": v, "score": -abs(m - 0.051), "measures": {"MSE": measured(m)}}
        for v, m in ((1, 0.045), (2, 0.09), (3, 0.2))
    ]
    choice = {
        "point": "default",
        "setting": "steps",
        "by": {"mse": PRIMARY},
        "value": 1,
        "candidates": candidates,
        "wanted": float(published_number(PRIMARY)["value"]),
    }
    purifier = common | {
        "dataset": "digits",
        "split": "held_out",
        "kind": "purifiers",
        "entry": "rated",
    }
    rates = [
        {"value": v, "score": s, "measures": {"clean accuracy": measured(s)}}
        for v, s in ((0.01, 0.5), (0.1, 0.75), (0.4, 0.7))
    ]
    other = {"point": "a15", "setting": "rate", "by": {"attack": "x"}, "value": 0.1}
    other["wanted"] = None
    paths = [tmp_path / "line.json", tmp_path / "rated.json"]
    for path, settings, message in (
        (paths[0], attack, choice),
        (paths[1], purifier, other | {"candidates": rates}),
    ):
        value = {
            "entry": settings["entry"],
            "classifier": "cnn",
            "images": 20,
            "choices": [message],
        }
        write_json(path, value, {"settings": settings})
    return paths


def test_every_candidate_has_a_row_and_one_is_chosen(files, tmp_path):
    cells = chosen.candidates(files, LABELS)
    by_place = {(cell.row, cell.column): cell for cell in cells}
    limit = "FGSM v1 (tiny_imagenet, cnn, seed 0), steps "
    half = 1.96 * 0.2 / 4
    assert by_place[f"{limit}2", "MSE"].estimate == pytest.approx(
        (0.09, 0.09 - half, 0.09 + half, 16)
    )
    rate = "rated a15 (digits, cnn, seed 0), rate "
    assert by_place[f"{rate}0.4", "clean accuracy"].estimate.value == pytest.approx(70)
    picked = [
        row for (row, column), c in by_place.items() if column == "chosen" and c.estimate.value
    ]
    assert picked == [f"{limit}1", f"{rate}0.1"]
    assert "FGSM v1" in cells.notes[0] and "it is the first that was tried" in cells.notes[0]
    assert "gives 0.045 pixel^2, asked for was 0.051" in cells.notes[0]
    assert "tried" not in cells.notes[1]
    paths = {name: tmp_path / name for name in ("csv", "markdown", "latex")}
    write.write(cells, "mine", "limits", [], paths)
    with paths["csv"].open(encoding="utf-8") as file:
        (line,) = [line for line in csv.DictReader(file) if line["published"]]
    assert (line["row"], float(line["published"])) == (f"{limit}1", 0.051)
    assert float(line["difference"]) == pytest.approx(-0.006)


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "expected"),
    [
        ("clean accuracy", 0.75, 0.433, [100 * bound for bound in wilson(12, 16)[:3]]),
        ("robust accuracy", 1.0, 0.0, [100 * bound for bound in wilson(16, 16)[:3]]),
        ("mean of both", 0.95, 0.3, [95, 95 - 1.96 * 30 / 4, 100]),
        ("mean of both", 0.05, 0.3, [5, 0, 5 + 1.96 * 30 / 4]),
        ("MSE", 0.05, 0.3, [0.05, 0.05 - 1.96 * 0.3 / 4, 0.05 + 1.96 * 0.3 / 4]),
    ],
)
def test_intervals_of_accuracies_stay_within_their_range(name, mean, deviation, expected):
    estimate = chosen._estimate(name, {"mean": mean, "deviation": deviation, "images": 16})
    assert estimate == pytest.approx((*expected, 16))
