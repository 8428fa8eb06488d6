"""The transfer matrix against accuracies by hand."""

import numpy as np
import pandas as pd
import pytest

from advdenoise.errors import BadInput
from advdenoise.reporting.read import Results
from advdenoise.reporting.tables.transfer import matrix

IMAGES = 40
SURROGATES = ("none", "first", "second")
POINT = {"function": "gradient.pgd", "settings": {}}


def threat(surrogate: str) -> str:
    return "pgd@cnn" if surrogate == "none" else f"pgd@cnn+{surrogate}"


def results(right: dict[tuple[str, str], np.ndarray], **names) -> Results:
    """Rows from threats and purifiers, and whether images [N] (or draws [R, N]) are right."""
    parts = []
    for (name, purifier), hits in right.items():
        for draw, row in enumerate(np.atleast_2d(hits)):
            rows = {"id": np.arange(IMAGES), "seed": 0, "draw": draw, "label": 1, "classes": 10}
            rows |= {"prediction": np.where(row, 1, 2), "epsilon": 0.1, "threat": name}
            rows |= {"dataset": "digits", "split": "test", "classifier": "cnn"}
            rows |= {"attack_point": "default", "purifier": purifier, "purifier_point": "default"}
            parts.append(pd.DataFrame(rows | names))
    purifiers = {
        name: {"points": {"default": {"function": "basic.direct", "settings": {}}}}
        for name in SURROGATES
    }
    attacks = {name: {"points": {"default": POINT}} for name in ("pgd", "bim")}
    return Results(pd.concat(parts), {"purifier": purifiers, "attack": attacks}, [])


def by_label(right: dict) -> dict:
    cells = matrix(results(right))
    cells_by_label = {(cell.row, cell.column): cell for cell in cells}
    assert len(cells_by_label) == len(cells)
    return cells_by_label


@pytest.fixture
def right() -> dict[tuple[str, str], np.ndarray]:
    random = np.random.default_rng(0)
    cells = {(threat(s), t): random.random(IMAGES) < 0.6 for s in SURROGATES for t in SURROGATES}
    return cells | {("clean", t): random.random(IMAGES) < 0.9 for t in SURROGATES}


def test_a_cell_for_each_pair_and_means_without_the_diagonal(right):
    cells_by_label = by_label(right)
    shares = {pair: hits.mean() for pair, hits in right.items()}
    for surrogate in SURROGATES:
        row = f"digits, cnn: pgd through {surrogate}"
        for target in SURROGATES:
            hits = right[threat(surrogate), target]
            assert cells_by_label[row, target].estimate.value == pytest.approx(100 * hits.mean())
            clean = right["clean", target]
            cell = cells_by_label[f"{row}, right when clean", target]
            assert cell.estimate.value == pytest.approx(100 * hits[clean].mean())
            assert cell.estimate.n == clean.sum()
        others = [shares[threat(surrogate), t] for t in SURROGATES if t != surrogate]
        assert cells_by_label[row, "mean of others"].estimate.value == pytest.approx(
            100 * np.mean(others)
        )
        others = [shares[threat(s), surrogate] for s in SURROGATES if s != surrogate]
        cell = cells_by_label["digits, cnn: pgd, mean of others", surrogate]
        assert cell.estimate.value == pytest.approx(100 * np.mean(others))


def test_equal_purifiers_have_equal_columns(right):
    for surrogate in SURROGATES:
        right[threat(surrogate), "second"] = right[threat(surrogate), "first"]
    right["clean", "second"] = right["clean", "first"]
    cells_by_label = by_label(right)
    for row in {row for row, _ in cells_by_label if "mean" not in row and "through" in row}:
        assert cells_by_label[row, "first"].estimate == cells_by_label[row, "second"].estimate


def test_a_random_target_is_right_when_clean_in_all_draws(right):
    clean = np.ones((2, IMAGES), bool)
    clean[1, :10] = False
    right["clean", "first"] = clean
    cells_by_label = by_label(right)
    cell = cells_by_label["digits, cnn: pgd through second, right when clean", "first"]
    assert cell.estimate.n == IMAGES - 10
    assert cell.estimate.value == pytest.approx(100 * right[threat("second"), "first"][10:].mean())


def test_attacks_through_one_purifier_are_left_out(right):
    right["bim@cnn+first", "first"] = right["bim@cnn+first", "second"] = np.ones(IMAGES)
    right["pgd@mlp", "first"] = np.ones(IMAGES)
    assert {row.partition(" through")[0] for row, _ in by_label(right)} == {
        "digits, cnn: pgd",
        "digits, cnn: pgd, mean of others",
    }


def test_without_several_purifiers_there_is_no_matrix():
    with pytest.raises(BadInput, match=r"transfer\.matrix: no attack goes through several"):
        matrix(results({("pgd@cnn+first", "first"): np.ones(IMAGES)}))
