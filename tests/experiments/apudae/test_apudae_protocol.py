"""Tables of flags, draws and transfer, as the table stage writes them from a job's files."""

import csv
import json

import pytest

from advdenoise.reporting.flags import FLAGS, SEVERITIES
from advdenoise.stages import table
from tests.fake_results import Results

PLACE = {"dataset": "patches", "classifier": "resnet18", "split": "studied"}


def written(quick: dict, root, function: str, **suite) -> tuple[list[dict], str]:
    """The lines of a table's CSV and its Markdown, for random results of a suite."""
    quick["suites"]["crossed"] = suite
    predictions = PLACE | {"suite": "crossed"}
    tables = quick["experiments"]["apudae"]["tables"]
    tables["own"] = {"function": function, "predictions": predictions}
    results = Results(root, quick)
    job = results.flow.job("table", {"experiment": "apudae", "table": "own"})
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: root / f"own.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(json.loads(json.dumps(job.settings)), **paths, **inputs)
    lines = list(csv.DictReader(paths["csv"].read_text(encoding="utf-8").splitlines()))
    return lines, paths["markdown"].read_text(encoding="utf-8")


def test_flags(quick, tmp_path):
    threats = ["clean", "bounded", "unrolled+", "bpda+", "square+"]
    lines, text = written(
        quick, tmp_path, "flags.flags", threats=threats, purifiers=["none", "best", "best_direct"]
    )
    rows = {line["row"] for line in lines}
    assert rows == {f"patches, resnet18: {name}" for name in ("none", "best", "best_direct")}
    for row in rows:
        own = {line["column"]: line["value"] for line in lines if line["row"] == row}
        assert list(own) == ["worst", *FLAGS] and set(own.values()) <= {*SEVERITIES}
        assert own["loop"] == "unknown"  # nothing is probed
    by_place = {(line["row"], line["column"]): line for line in lines}
    line = by_place["patches, resnet18: best", "random"]
    assert line["value"] == "suspect" and "draws of the evaluation 2, of the attack 2" in text
    # Random results: right under one attack says nothing about another.
    line = by_place["patches, resnet18: best_direct", "blackbox"]
    assert line["value"] == "suspect" and int(line["against"]) > 0 and float(line["p"]) < 1e-3
    assert "Unknown, unconverged: needs two points" in text


def test_draws(quick, tmp_path):
    lines, text = written(
        quick,
        tmp_path,
        "resubmission.by_threat",
        threats=["clean", "bpda+"],
        purifiers=["best", "best_direct"],
    )
    columns = {line["column"] for line in lines}
    assert columns == {"one draw", "mean of draws", "worst of 2", "majority of 2"}
    direct = {line["value"] for line in lines if line["row"].endswith("bpda+, best_direct")}
    assert len({round(float(value), 6) for value in direct}) == 1
    assert "Majority: the label has strictly more votes" in text


def test_transfer(quick, tmp_path):
    purifiers = ["none", "best", "best_direct"]
    bim = "bounded_bim@resnet18"
    lines, _ = written(
        quick,
        tmp_path,
        "transfer.matrix",
        threats=["clean", bim, f"{bim}+best", f"{bim}+best_direct"],
        purifiers=purifiers,
    )
    cells = {(line["row"], line["column"]) for line in lines}
    head = "patches, resnet18: bounded_bim"
    for surrogate in purifiers:
        for column in (*purifiers, "mean of others"):
            assert (f"{head} through {surrogate}", column) in cells


@pytest.mark.parametrize("function", ["accuracy.by_threat", "accuracy.worst_case"])
def test_flags_beside_accuracies(quick, tmp_path, function):
    lines, text = written(
        quick, tmp_path, function, threats=["clean", "bpda+", "square+"], purifiers=["best_direct"]
    )
    flags = {line["flags"] for line in lines if line["metric"] == "robust accuracy"}
    assert any("blackbox" in names for names in flags)
    assert all(line["flags"] == "" for line in lines if line["metric"] == "clean accuracy")
    assert "], suspect" in text
