"""The worst case of predicted masks over attacks, against brute force and single attacks."""

import itertools

import numpy as np
import pandas as pd
import pytest

from advdenoise import metrics
from advdenoise.errors import BadInput
from advdenoise.reporting.read import Results
from advdenoise.reporting.tables import masks

ATTACKS, IMAGES, CLASSES = 3, 4, 3
THREATS = ["clean", "sea@cnn a", "sea@cnn b", "sea@cnn+best a"]


def matrices(random, attacks=ATTACKS, images=IMAGES) -> np.ndarray:
    """Matrices of one truth per image: [attacks, images, classes, classes]."""
    truth = random.integers(1, 60, (images, CLASSES))
    shares = random.dirichlet(np.ones(CLASSES), (attacks, images, CLASSES))
    return np.floor(shares * truth[None, :, :, None])


def test_the_greedy_choice_against_all_choices():
    random, equal = np.random.default_rng(0), 0
    for _ in range(100):
        counts = matrices(random)
        chosen = metrics.lowest_miou(counts)
        value = metrics.miou(counts[chosen, np.arange(IMAGES)].sum(0))
        choices = itertools.product(range(ATTACKS), repeat=IMAGES)
        lowest = min(metrics.miou(counts[c, np.arange(IMAGES)].sum(0)) for c in choices)
        assert lowest - 1e-12 <= value <= metrics.miou(counts.sum(1)).min() + 1e-12
        assert value <= lowest + 0.02
        equal += value <= lowest + 1e-12
    assert equal >= 90


def test_single_matrices():
    counts = np.array([[3, 1], [2, 4]])
    assert metrics.pixel_accuracy(counts) == pytest.approx(0.7)
    assert metrics.micro_iou(counts) == pytest.approx(7 / 13)
    assert np.isnan(metrics.micro_iou(np.zeros((2, 2))))


def frame(counts: np.ndarray, seed: int = 0) -> pd.DataFrame:
    parts = []
    for name, own in zip(THREATS, counts, strict=True):
        threat, _, point = name.partition(" ")
        rows = {"id": np.arange(len(own)), "threat": threat, "draw": 0, "seed": seed, "label": -1}
        rows |= {"attack_point": point or "default", "purifier_point": "default"}
        rows |= {"dataset": "scenes", "split": "test", "classifier": "cnn", "purifier": "best"}
        rows |= {"classes": CLASSES, "prediction": -1, "label_rank": -1}
        parts.append(pd.DataFrame(rows))
    table = pd.concat(parts, ignore_index=True)
    table["confusion"] = list(counts.reshape(-1, CLASSES * CLASSES).astype(int))
    return table


def results(table: pd.DataFrame) -> Results:
    point = {"function": "dense.apgd", "settings": {"epsilon": 0.03}}
    points = dict.fromkeys(("a", "b", "default"), point)
    attacks = {"sea": {"points": points}, "clean": {"points": points}}
    fixed = {"default": {"function": "basic.direct", "settings": {}}}
    return Results(table, {"attack": attacks, "purifier": {"best": {"points": fixed}}}, [])


SETS = {"clean": [0], "oblivious": [0, 1, 2], "adaptive": [0, 3], "all": [0, 1, 2, 3]}


def test_each_measure_is_a_minimum_over_the_attacks_of_a_set():
    counts = matrices(np.random.default_rng(1), len(THREATS), 12)
    found = {(c.about["attacker"], c.metric): c for c in masks.worst_case(results(frame(counts)))}
    assert {name for name, _ in found} == set(SETS)
    measures = {
        "pixel accuracy": metrics.pixel_accuracy,
        "image-wise mIoU": metrics.miou,
        "image-wise micro IoU": metrics.micro_iou,
    }
    for attacker, places in SETS.items():
        for name, measure in measures.items():
            expected = np.mean([min(measure(counts[p, i]) for p in places) for i in range(12)])
            estimate = found[attacker, name].estimate
            assert estimate.value == pytest.approx(100 * expected)
            assert estimate.low <= estimate.value <= estimate.high and estimate.n == 12
        chosen = counts[np.array(places)][metrics.lowest_miou(counts[places]), np.arange(12)]
        miou = found[attacker, "mIoU"].estimate
        assert miou.value == pytest.approx(100 * metrics.miou(chosen.sum(0)))
        singles = [100 * metrics.miou(counts[p].sum(0)) for p in places]
        assert miou.value <= min(singles) + 1e-9


def test_images_without_labelled_pixels_are_left_out():
    counts = matrices(np.random.default_rng(2), len(THREATS), 5)
    with_empty = np.concatenate([counts, np.zeros_like(counts[:, :1])], 1)
    pairs = [
        {(c.row, c.column): c.estimate.value for c in masks.worst_case(results(frame(x)))}
        for x in (counts, with_empty)
    ]
    assert pairs[0] == pytest.approx(pairs[1])


def test_replicates_are_averaged():
    random = np.random.default_rng(3)
    parts = [matrices(random, len(THREATS), 6) for _ in range(2)]
    single = [
        {(c.row, c.column): c.estimate.value for c in masks.worst_case(results(frame(x)))}
        for x in parts
    ]
    both = pd.concat([frame(x, seed) for seed, x in enumerate(parts)], ignore_index=True)
    for found in masks.worst_case(results(both)):
        values = [own[found.row, found.column] for own in single]
        assert found.estimate.value == pytest.approx(np.mean(values))
        assert found.spread == pytest.approx(np.std(values, ddof=1))


def test_predictions_of_images_are_refused():
    table = frame(matrices(np.random.default_rng(4), len(THREATS))).drop(columns="confusion")
    with pytest.raises(BadInput, match="a table of mIoU reads predictions of masks"):
        masks.worst_case(results(table))
