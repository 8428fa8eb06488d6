"""Cells of tables against counts by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from advdenoise import statistics
from advdenoise.errors import BadInput
from advdenoise.graph.threats import CLEAN
from advdenoise.io.schemas import DETECTION
from advdenoise.reporting import measures
from advdenoise.reporting.read import read, read_stage
from advdenoise.reporting.tables import accuracy, denoisers, detection, layers
from tests.fake_results import Results


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The roots of (share - p)^2 = z^2 p (1 - p) / n, found by bisection."""
    share, z = successes / n, 1.959963984540054

    def outside(p):
        return (share - p) ** 2 > z * z * p * (1 - p) / n

    bounds = []
    for far in (0.0, 1.0):
        inner, outer = share, far
        for _ in range(200):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if outside(middle) else (middle, outer)
        bounds.append(inner)
    return tuple(bounds)


def chosen(frame, **values):
    for name, value in values.items():
        frame = frame[frame[name] == value]
    return frame


def test_accuracy_counts_images_of_all_replicates(results):
    result = read(results.inputs("tables", "mine", "accuracy")["predictions"])
    cells = accuracy.by_threat(result)
    assert len(cells) == 2 * 3  # two purifiers; clean and two points
    for cell in cells:
        names = ("threat", "attack_point", "purifier")
        rows = chosen(result.frame, **{name: cell.about[name] for name in names})
        right = (rows["prediction"] == rows["label"]).to_numpy()
        assert len(rows) == cell.estimate.n == 60
        low, high = wilson(right.sum(), 60)
        assert cell.estimate.value == pytest.approx(100 * right.mean())
        assert (cell.estimate.low, cell.estimate.high) == pytest.approx((100 * low, 100 * high))
        per_seed = [100 * right[rows["seed"] == seed].mean() for seed in (0, 1)]
        assert cell.spread == pytest.approx(abs(per_seed[0] - per_seed[1]) / math.sqrt(2))
        kind = "clean" if cell.about["threat"] == CLEAN else "robust"
        assert (cell.metric, cell.unit) == (f"{kind} accuracy", "%")


def test_draws_of_an_image_count_as_one(results):
    entry = results.flow.config["purifiers"]["direct_bimodal"]
    entry["draws"], entry["points"]["default"]["function"] = 4, "tests.own_purifiers:noisy_descent"
    result = read(results.inputs("tables", "mine", "accuracy")["predictions"])
    cells = [c for c in accuracy.by_threat(result) if c.about["purifier"] == "direct_bimodal"]
    for cell in cells:
        names = ("threat", "attack_point", "purifier")
        rows = chosen(result.frame, **{name: cell.about[name] for name in names})
        assert len(rows) == 240 and cell.estimate.n == 60
        shares = [
            np.mean(part["prediction"] == part["label"]) for _, part in rows.groupby(["seed", "id"])
        ]
        assert cell.estimate.value == pytest.approx(100 * np.mean(shares))
        bounds = [100 * bound for bound in wilson(sum(shares), 60)]
        assert [cell.estimate.low, cell.estimate.high] == pytest.approx(bounds)


@pytest.fixture
def two_attacks(tmp_path, own):
    """Result files of two replicates of FGSM and PGD."""
    own["seeds"] = [0, 1]
    del own["attacks"]["z_score"]["points"]["deepfool"]
    del own["detectors"]["off_the_shelf"]["points"]["svc_searched"]
    return Results(tmp_path, own)


def auc(part) -> float:
    """The share of pairs in which the adversarial row has the higher score, ties half."""
    positives = part["score"][part["is_adversarial"]].to_numpy()[:, None]
    negatives = part["score"][~part["is_adversarial"]].to_numpy()
    return ((positives > negatives) + 0.5 * (positives == negatives)).mean()


def tpr(part, rate: float) -> float:
    result = [0.0]
    for threshold in part["score"]:
        above = part["score"] >= threshold
        if above[~part["is_adversarial"]].mean() <= rate:
            result.append(above[part["is_adversarial"]].mean())
    return max(result)


@pytest.fixture
def detected(two_attacks):
    detection_settings = {"representations": ["predicted"], "split_seeds": 3, "transfer": False}
    two_attacks.flow.config["detection"] |= detection_settings
    return read(two_attacks.inputs("tables", "mine", "areas")["detection"], DETECTION)


def test_areas_and_rates_are_means_over_splits_and_replicates(detected):
    cells = detection.by_detector(detected)
    assert len(cells) == 2 * 3 * 2 * 4  # attacks, detectors, protocols; AUC and three rates
    for cell in cells:
        names = ("attack_point", "detector_point", "protocol")
        rows = chosen(detected.frame, **{name: cell.about[name] for name in names})
        splits = [part for _, part in rows.groupby(["seed", "split_seed"])]
        assert len(splits) == 6
        if cell.metric == "AUC":
            values = [auc(part) for part in splits]
            assert cell.estimate.low < cell.estimate.value < cell.estimate.high
            assert cell.estimate.n == rows["id"].nunique()  # images of any split
        else:
            rate = float(cell.metric.split()[2].rstrip("%")) / 100
            values = [tpr(part, rate) for part in splits]
            images = rows["id"][rows["is_adversarial"]].nunique()
            bounds = wilson(np.mean(values) * images, images)
            assert (cell.estimate.low, cell.estimate.high) == pytest.approx(bounds, abs=1e-6)
            assert cell.column.endswith(cell.metric) and cell.estimate.n == images
        assert cell.estimate.value == pytest.approx(np.mean(values))
        assert cell.spread == pytest.approx(np.std(values, ddof=1))
    assert {cell.metric for cell in cells} == {
        "AUC",
        "TPR at 1% FPR",
        "TPR at 5% FPR",
        "TPR at 10% FPR",
    }


def test_areas_are_told_with_the_interval_of_the_mean(detected):
    """Images are drawn once for the splits of all replicates, which share them."""
    for cell in measures.auc(detected, lambda about: ("row", "column")):
        names = ("attack_point", "detector_point", "protocol")
        rows = chosen(detected.frame, **{name: cell.about[name] for name in names})
        scored = (rows[name].to_numpy() for name in ("score", "is_adversarial", "id"))
        runs = 10 * rows["seed"].to_numpy() + rows["split_seed"].to_numpy()
        assert cell.estimate == pytest.approx(statistics.bootstrap_auc(*scored, runs))


def test_protocols_are_compared_over_splits_of_all_replicates(detected):
    cells = detection.protocols(detected)
    assert Counter(cell.metric for cell in cells) == {"AUC": 12, "AUC difference": 6}
    values = {(cell.row, cell.column): cell for cell in cells}
    assert len(values) == len(cells)
    for cell in cells[12:]:
        assert cell.column.endswith("(paper - grouped)") and cell.unit == "AUC"
        assert cell.about["protocol"] == "paper - grouped"
        names = ("attack_point", "detector_point")
        rows = chosen(detected.frame, **{name: cell.about[name] for name in names})
        differences = [
            auc(chosen(part, protocol="paper")) - auc(chosen(part, protocol="grouped"))
            for _, part in rows.groupby(["seed", "split_seed"])
        ]
        estimate = cell.estimate
        assert estimate.value == pytest.approx(np.mean(differences))
        assert cell.spread == pytest.approx(np.std(differences, ddof=1))
        assert estimate.low < estimate.value < estimate.high and estimate.n == rows["id"].nunique()
        sides = [
            values[cell.row, cell.column.replace("paper - grouped", protocol)].estimate.value
            for protocol in ("paper", "grouped")
        ]
        assert estimate.value == pytest.approx(sides[0] - sides[1])
    turned = measures.auc_difference(detected, lambda about: ("", ""), "grouped", "paper")
    for cell, other in zip(cells[12:], turned, strict=True):
        assert other.about["protocol"] == "grouped - paper"
        low, high = (-bound for bound in (cell.estimate.high, cell.estimate.low))
        assert other.estimate[:3] == pytest.approx((-cell.estimate.value, low, high))


def test_protocols_are_compared_where_both_have_a_split(detected):
    frame = detected.frame
    lost = (frame["protocol"] == "grouped") & (frame["detector_point"] == "forest")
    kept = frame[~lost | (lost & (frame["split_seed"] == 1) & (frame["seed"] == 0))]
    none = kept[(kept["protocol"] == "paper") | (kept["detector_point"] != "svc")]
    cells = measures.auc_difference(detected.of(none), lambda about: ("", ""))
    assert {cell.about["detector_point"] for cell in cells} == {"forest", "xgboost"}
    for cell in cells:
        if cell.about["detector_point"] == "forest":
            rows = chosen(none, detector_point="forest", seed=0, split_seed=1)
            rows = chosen(rows, attack_point=cell.about["attack_point"])
            sides = [auc(chosen(rows, protocol=protocol)) for protocol in ("paper", "grouped")]
            assert cell.estimate.value == pytest.approx(sides[0] - sides[1])
            assert math.isnan(cell.spread)


def test_other_tables_do_not_see_what_was_fitted_on_another_attack(two_attacks):
    """With and without transfer they read the same rows."""
    settings = {"representations": ["predicted"], "split_seeds": 1, "transfer": True}
    two_attacks.flow.config["detection"] |= settings
    paths = two_attacks.inputs("tables", "mine", "areas")["detection"]
    own, everything = read(paths, DETECTION), read(paths)
    assert len(everything.frame) == 2 * len(own.frame)
    assert (own.frame["fitted_threat"] == own.frame["threat"]).all()
    assert (own.frame["fitted_point"] == own.frame["attack_point"]).all()
    assert read_stage("detection", paths).frame.equals(own.frame)
    other = read(paths, DETECTION, fitted_on=("z_score@cnn26", "pgd")).frame
    assert len(other) == len(own.frame) and set(other["fitted_point"]) == {"pgd"}
    assert set(other["attack_point"]) == {"fgsm", "pgd"}

    cells = {(cell.row, cell.column): cell for cell in detection.transfer(own)}
    assert len(cells) == 2 * 2 * 3 * 2  # fitted and tested on, detectors, protocols
    ordinary = {
        tuple(cell.about[name] for name in ("attack_point", "detector_point", "protocol")): cell
        for cell in detection.by_detector(own)
        if cell.metric == "AUC"
    }
    for (row, column), cell in cells.items():
        about = cell.about
        assert row.endswith(f"fitted on z_score {about['fitted_point']}")
        assert column == f"z_score {about['attack_point']}"
        names = ("attack_point", "fitted_point", "detector_point", "protocol")
        rows = chosen(everything.frame, **{name: about[name] for name in names})
        assert len(rows) == 2 * 12
        parts = [auc(part) for _, part in rows.groupby("seed")]
        assert cell.estimate.value == pytest.approx(np.mean(parts))
        if about["fitted_point"] == about["attack_point"]:
            same = ordinary[tuple(about[name] for name in names if name != "fitted_point")]
            assert cell.estimate == same.estimate


def test_a_matrix_without_other_attacks_says_what_to_set(detected):
    with pytest.raises(BadInput, match=r"`detection: \{transfer: true\}`"):
        detection.transfer(detected)


def test_distances_are_means_over_images(results):
    result = read(results.inputs("tables", "mine", "layers")["distances"])
    cells = layers.by_layer(result)
    assert len({(cell.row, cell.column) for cell in cells}) == len(cells)
    names = ("classifier", "threat", "attack_point", "purifier", "layer_index")
    for cell in cells:
        rows = chosen(result.frame, **{name: cell.about[name] for name in names})
        assert cell.estimate.value == pytest.approx(rows[cell.metric].mean())
        assert cell.estimate.low < cell.estimate.value < cell.estimate.high
        assert cell.estimate.n == 30 and len(rows) == 60
        per_seed = [part[cell.metric].astype(float).mean() for _, part in rows.groupby("seed")]
        assert cell.spread == pytest.approx(np.std(per_seed, ddof=1))
    assert {cell.metric for cell in cells} == {
        "ne_d",
        "ne_d_sqrt",
        "cos_d",
        "ne_d_raw",
        "cos_d_raw",
    }


def test_calibration_has_the_interval_of_a_mean(results):
    cells = denoisers.calibration(results.inputs("tables", "mine", "calibration")["calibration"])
    assert [(cell.row, cell.column) for cell in cells] == [
        (f"{name}, seed {seed}", column)
        for name in ("patches, red", "patches, unet", "digits, red_grey")
        for seed in (0, 1)
        for column in ("mean", "deviation")
    ]
    mean, deviation = cells[:2]
    assert mean.estimate == pytest.approx((4.0, 4 - 1.96 * 0.15, 4 + 1.96 * 0.15, 100))
    assert deviation.estimate.value == 1.5 and math.isnan(deviation.estimate.low)


def test_one_replicate_has_no_spread(tmp_path, own):
    results = Results(tmp_path, own)
    result = read(results.inputs("tables", "mine", "accuracy")["predictions"])
    assert all(math.isnan(cell.spread) for cell in accuracy.by_threat(result))


def test_a_row_is_named_by_what_tells_something_new(results):
    result = read(results.inputs("tables", "mine", "threats")["predictions"])
    rows = {cell.row for cell in accuracy.by_threat(result) if cell.column == "best"}
    known = ("clean", "bounded bim", "unrolled+", "square+", "counter_a+")
    assert rows >= {f"patches, resnet18: {threat}" for threat in known}
