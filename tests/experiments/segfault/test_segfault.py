"""Tables of "segfault" that show images' segments and what they cost."""

import copy
import functools
import json
import math

import numpy as np
import pytest

from advdenoise.calls import call_with
from advdenoise.errors import BadInput
from advdenoise.graph.sources import load
from advdenoise.reporting.read import read_stage
from advdenoise.stages import table
from experiments.segfault import tables
from experiments.segfault.claims import PUBLISHED
from tests.fake_results import Results

NUMBERED = [f"table{number}" for number in range(1, 8)]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, segfault_file):
    """A function from a table's name to its cells, of results that no test changes."""
    results = Results(tmp_path_factory.mktemp("segfault"), copy.deepcopy(segfault_file))

    @functools.cache
    def cells(name: str):
        entry = results.flow.config["experiments"]["segfault"]["tables"][name]
        inputs = results.inputs("tables", "segfault", name)
        stages = {stage: read_stage(stage, paths) for stage, paths in inputs.items()}
        return call_with(load("tables", entry), **stages)

    cells.results = results
    return cells


@pytest.mark.parametrize(
    "name", [name for name in NUMBERED if name not in ("table3", "table4", "table5")]
)
def test_every_printed_number_has_a_cell(experiment, name):
    """Examples apart: their classes are the data set's, epsilons the configuration's."""
    printed = PUBLISHED.numbers(name)
    places = {(cell.row, cell.column) for cell in experiment(name)}
    missing = printed.keys() - places
    if name == "table1":
        missing = {place for place in missing if "eps=0." not in place[1]}
    assert not missing


@pytest.mark.parametrize("name", ["table2", "table6"])
def test_protocols_and_their_difference_are_rows_of_their_own(experiment, name):
    cells = {(cell.row, cell.column): cell.estimate for cell in experiment(name)}
    rows = [row for row, _ in cells if "(" not in row.replace("(ML-LOO)", "")]
    for row in rows:
        for column in {column for own, column in cells if own == row}:
            paper, grouped = cells[row, column], cells[f"{row} (grouped)", column]
            difference = cells[f"{row} (paper - grouped)", column]
            assert difference.value == pytest.approx(paper.value - grouped.value)
            assert difference.low <= difference.value <= difference.high
    assert len(cells) == 3 * 12 * len(set(rows))


def test_segments_stand_where_the_paper_prints_them(experiment):
    """The images of the fabricated examples have 1, 2, 3, ... segments under any setting."""
    table3 = {(c.row, c.column): c.estimate for c in experiment("table3")}
    assert len(table3) == 8 * 4
    assert table3["Class0", "scale=1000"] == pytest.approx((1, math.nan, math.nan, 1), nan_ok=True)
    assert table3["Class7", "scale=1"].value == 8
    table4 = {(c.row, c.column): c.estimate.value for c in experiment("table4")}
    assert len(table4) == 8 * 6
    assert table4["sigma=2", "Class4 max_dist=20"] == 5
    table5 = {(c.row, c.column): c.estimate.value for c in experiment("table5")}
    assert len(table5) == 8 * 4
    assert table5["Class2", "n_segments=1"] == table5["Class2", "n_segments=128"] == 3
    printed = PUBLISHED.numbers("table4")
    assert {row for row, _ in printed} == {row for row, _ in table4}
    assert {column.partition(" ")[2] for _, column in printed} == {
        column.partition(" ")[2] for _, column in table4
    }


def test_a_second_image_of_a_class_is_numbered_and_replicates_are_shown_once(tmp_path, segfault):
    segfault["seeds"] = [0, 1]
    segfault["examples"]["images"] = 12
    results = Results(tmp_path, segfault)
    (*paths,) = results.inputs("tables", "segfault", "table5")["examples"]
    assert len(paths) == 2
    cells = tables.slic_segments(paths)
    assert len(cells) == 12 * 4
    rows = {cell.row: cell.estimate.value for cell in cells}
    assert rows["Class1"] == 2 and rows["Class1 2"] == 12


def test_superpixels_that_are_not_stored_are_told(tmp_path, segfault):
    segfault["examples"]["superpixels"] = ["slic"]
    results = Results(tmp_path, segfault)
    paths = results.inputs("tables", "segfault", "table4")["examples"]
    with pytest.raises(BadInput, match=r"examples\.superpixels: .* by quickshift"):
        tables.quickshift_segments(paths)


def test_time_is_that_of_superpixels_and_passes(experiment):
    cells = {(cell.row, cell.column): cell for cell in experiment("table7")}
    assert len(cells) == 14 * 6
    frame = read_stage(
        "cost", experiment.results.inputs("tables", "segfault", "table7")["cost"]
    ).frame
    rows = frame[(frame["attribution_point"] == "n64") & (frame["representation"] == "hidden")]
    seconds = 0.5 + rows["passes_seconds"].to_numpy(np.float64)
    time = cells["slic n_segments=64", "time 4K-D"]
    assert time.estimate == pytest.approx((seconds.mean(), min(seconds), max(seconds), 2))
    assert time.unit == "s"
    memory = cells["slic n_segments=64", "memory 10-D"]
    assert memory.estimate[0] == 22 * 32 * 10 * 4 + 110 and memory.unit == "byte"


def test_cost_stands_beside_the_auc(experiment):
    cells = experiment("cost")
    columns = {cell.column for cell in cells}
    assert columns == {"AUC", "passes", "seconds", "bytes", "features, seconds", "features, bytes"}
    rows = [cell.row for cell in cells if cell.column == "AUC"]
    assert len(rows) == len(set(rows)) == 14 * 4 * 3 * 2
    row = "quickshift sigma=2 max_dist=10, C&W 10-D, XGB (grouped)"
    result = {cell.column: cell.estimate.value for cell in cells if cell.row == row}
    assert result["passes"] == 50 and result["features, bytes"] == 1e6
    assert result["features, seconds"] == 50.5 and 0 <= result["AUC"] <= 1


def test_a_peak_that_no_one_tells_is_left_out(experiment):
    results = experiment.results
    inputs = results.inputs("tables", "segfault", "cost")
    detection, cost = (read_stage(stage, inputs[stage]) for stage in ("detection", "cost"))
    cells = tables.tradeoff(detection, cost.of(cost.frame.assign(peak_bytes=None)))
    assert not [cell for cell in cells if cell.column == "features, bytes"]
    none = tables.tradeoff(detection, cost.of(cost.frame[cost.frame["attribution"] == "slic"]))
    assert {c.about["attribution"] for c in none if c.column == "passes"} == {"slic"}


@pytest.mark.parametrize("name", [*NUMBERED, "cost", "claims"])
def test_the_stage_writes_them(experiment, tmp_path, name):
    results = experiment.results
    job = results.flow.job("table", {"experiment": "segfault", "table": name})
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: tmp_path / f"{name}.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(json.loads(json.dumps(job.settings)), **paths, **inputs)
    for path in paths.values():
        assert path.stat().st_size > 200
    head = paths["csv"].read_text(encoding="utf-8").partition("\n")[0]
    assert ("value_seconds" in head) == (name in ("table7", "cost"))


def test_claims_depend_on_all_that_the_paper_prints(segfault, tmp_path):
    flow = Results(tmp_path, segfault).flow

    def published(name):
        settings = flow.job("table", {"experiment": "segfault", "table": name}).settings
        assert settings["published"]["folder"] == "experiments/segfault/published"
        return set(settings["published"]["digests"])

    assert published("table6") == {"table6.csv"}
    assert published("claims") >= {"table6.csv", "textnumbers.csv"}


@pytest.mark.parametrize("name", ["table2", "table6", "table7"])
@pytest.mark.parametrize(("per_layer", "notes"), [(20, ("4K-D has 390 values here.",)), (200, ())])
def test_vectors_of_another_length_than_their_name_says_are_told(
    tmp_path, segfault, name, per_layer, notes
):
    segfault["hidden"]["per_layer"] = per_layer
    results = Results(tmp_path, segfault)
    entry = results.flow.config["experiments"]["segfault"]["tables"][name]
    inputs = results.inputs("tables", "segfault", name)
    stages = {stage: read_stage(stage, paths) for stage, paths in inputs.items()}
    assert call_with(load("tables", entry), **stages).notes == notes


def test_accuracy_is_told_for_each_epsilon_of_a_cycle(segfault, tmp_path):
    segfault["seeds"] = [0, 1]
    segfault["suites"]["segfault"]["threats"] = ["clean", "z_score"]
    del segfault["attacks"]["z_score"]["points"]["deepfool"]
    inputs = Results(tmp_path, segfault).inputs("tables", "segfault", "table1")
    result = read_stage("predictions", inputs["predictions"])
    cells = {(c.row, c.column): c for c in tables.attacks(result)}
    assert set(cells) == {("No attack", "-")} | {
        (attack, f"eps={epsilon}") for attack in ("FGSM", "PGD") for epsilon in (0.1, 0.4, 0.8)
    }
    unit = 64.150024 / 255
    for (row, column), cell in cells.items():
        if row == "No attack":
            continue
        part = result.frame[result.frame["attack_point"] == row.lower()]
        part = part[np.isclose(part["epsilon"], float(column.removeprefix("eps=")) * unit)]
        assert cell.estimate.n == len(part) == 20
        expected = 100 * (part["prediction"] == part["label"]).mean()
        assert cell.estimate.value == pytest.approx(expected)
