"""Rows for programs: what is joined is of the same image, behind the same purifier."""

import json

import numpy as np
import pytest

from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import DETECTION, DISTANCES, PREDICTIONS
from advdenoise.stages import rows
from tests.fake_results import IMAGES, Results

SEEN = ["classifier", "id", "threat", "purifier"]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, propagation_file):
    """The results, and the explorer's rows as the stage writes and a reader finds them."""
    results = Results(tmp_path_factory.mktemp("explorer"), propagation_file)
    job = results.flow.job("rows", {"experiment": "propagation", "rows": "explorer"})
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    path = results.root / "explorer.parquet"
    rows.run(json.loads(json.dumps(job.settings)), path, **inputs)
    return inputs, read_table(path).to_pandas()


def stored(paths, schema, classifier: str):
    (path,) = (p for p in paths if f"/{classifier}/" in str(p))
    return read_table(path, schema).to_pandas()


def test_every_distance_is_there_once(experiment):
    inputs, result = experiment
    count = sum(len(stored(inputs["distances"], DISTANCES, c)) for c in ("cnn26", "vgg19"))
    assert len(result) == count
    assert not result.duplicated([*SEEN, "attack_point", "purifier_point", "layer_index"]).any()
    assert result[["ne_d", "cos_d"]].notna().all(axis=None)


def test_predictions_are_those_behind_the_same_purifier(experiment):
    inputs, result = experiment
    behind = [p for p in inputs["predictions"] if "/bim/direct_red/" in str(p)]
    predicted = stored(behind, PREDICTIONS, "cnn26").set_index(["threat", "id"])
    part = result[(result["classifier"] == "cnn26") & (result["purifier"] == "direct_red")]
    part = part[part["layer_index"] == 2].set_index(["threat", "id"])
    assert {*part.index} == {*predicted.index}
    right = predicted["prediction"] == predicted["label"]
    assert (part["right"] == right.reindex(part.index)).all()


def test_scores_are_means_over_the_splits_that_tested_on_an_image(experiment):
    inputs, result = experiment
    scores = stored(inputs["detection"], DETECTION, "cnn26")
    scores = scores[
        (scores["protocol"] == "grouped") & (scores["representation"] == "probabilities")
    ]
    column, has = "score xgboost pixels", result[result["classifier"] == "cnn26"]
    for threat, is_adversarial in (("bim@cnn26", True), ("clean", False)):
        expected = scores[scores["is_adversarial"] == is_adversarial].groupby("id")["score"].mean()
        part = has[has["threat"] == threat].groupby("id")[column].agg(["min", "max"])
        assert len(part) == IMAGES and len(expected) < IMAGES
        assert np.allclose(part["min"], expected.reindex(part.index), equal_nan=True)
        assert np.allclose(part["max"], part["min"], equal_nan=True)  # at every layer
    # Nobody asked a detector about an attack that knows a purifier, or about another network.
    assert has.loc[has["threat"] == "bim@cnn26+direct_red", column].isna().all()
    assert result.loc[result["classifier"] == "vgg19", column].isna().all()


def test_a_table_of_rows_is_one_parquet_and_no_page(propagation_file, tmp_path):
    flow = Results(tmp_path, propagation_file).flow
    result = [path for path in flow.targets("propagation") if "explorer." in path]
    assert result == ["results/quick/tables/propagation/explorer.parquet"]
    names = flow.constraints()
    assert "explorer" in names["rows"] and "explorer" not in names["table"]
    assert "table5" in names["table"] and "table5" not in names["rows"]
