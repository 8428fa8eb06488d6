"""The table of limits against means by hand and the published numbers."""

import csv
import math

import numpy as np
import pyarrow as pa
import pytest

from scripts.advdenoise import store
from scripts.advdenoise.schemas import LIMITS
from scripts.advdenoise.tables import _labels, _write, limits
from scripts.advdenoise.tables._read import read_stage

FUNCTIONS = {"f": "stopped.line_search", "i": "stopped.i_fgsm", "m": "stopped.mi_fgsm"}
COLUMNS = {
    "f@a": "FGSM v1",
    "f@b": "FGSM v2",
    "i@a": "i-FGSM v1",
    "i@b": "i-FGSM v2",
    "m@b": "mi-FGSM",
    "m@a": "m@a",  # the paper has no such set
}
IMAGES, LIMIT = 20, 6


def path_of(threat: str) -> np.ndarray:
    """Mean squared perturbations [limits, images] in grey levels, growing with the limit."""
    random = np.random.default_rng(len(threat) + ord(threat[0]) + ord(threat[-1]))
    return np.cumsum(random.random((LIMIT + 1, IMAGES)) * 2, axis=0) - 0.5


@pytest.fixture
def found(tmp_path):
    files = []
    for threat in COLUMNS:
        attack, _, victim = threat.partition("@")
        point = {"function": FUNCTIONS[attack], "settings": {"steps": LIMIT}}
        entry = {"name": attack, "surrogate": "a", "points": {"default": point}}
        names = {"seed": 0, "dataset": "tiny_imagenet", "split": "train", "threat": threat}
        settings = names | {"attack": entry, "attacks": {attack: entry}}
        rows = [
            {"id": image, "attack_point": "default", "steps": steps, "mse": mse / 255**2}
            for steps, images in enumerate(path_of(threat))
            for image, mse in enumerate(images)
        ]
        files.append(tmp_path / f"{threat}.parquet")
        table = pa.Table.from_pylist(rows, LIMITS)
        store.write_table(files[-1], table, {"settings": settings})
    return read_stage("limits", files)


def primary() -> dict[str, float]:
    path = _write.PUBLISHED / "propagation_table4.csv"
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["column"] == "Primary"]
    return {line["row"]: float(line["value"]) for line in lines}


def test_the_published_numbers_are_those_of_the_paper():
    assert list(primary().values()) == [0.051, 13.439, 1.224, 4.22, 1.466]
    assert set(primary()) == set(COLUMNS.values()) - {"m@a"}


def test_without_a_surrogate_the_victim_gives_the_gradient():
    entry = {"points": {"default": {"function": "stopped.i_fgsm"}}}
    assert _labels.adversarial_set(entry, "mine@a", "default") == "i-FGSM v1"
    assert _labels.adversarial_set(entry | {"surrogate": "b"}, "mine@a", "default") == "i-FGSM v2"


def test_rows_are_means_under_each_limit(found):
    cells = limits.by_primary_mse(found)
    for threat, column in COLUMNS.items():
        for steps in range(LIMIT + 1):
            (cell,) = (c for c in cells if (c.row, c.column) == (str(steps), column))
            expected = path_of(threat)[steps].mean()
            assert cell.estimate.value == pytest.approx(expected, rel=1e-5)
            assert cell.estimate.low < expected < cell.estimate.high
            assert (cell.estimate.n, cell.unit) == (IMAGES, "pixel^2")


def test_the_nearest_limit_is_told_beside_the_published_number(found, tmp_path):
    cells = limits.by_primary_mse(found)
    nearest = {cell.column: cell.estimate.value for cell in cells if cell.row == limits.LIMIT}
    assert set(nearest) == set(primary())
    for threat, column in COLUMNS.items():
        if column in nearest:
            means = path_of(threat).mean(1)
            apart = np.abs(means - primary()[column])
            assert nearest[column] == apart.argmin()
            (note,) = (n for n in cells.notes if f" {primary()[column]:.3f}" in n)
            assert note.startswith(f"attacks.{threat[0]}.settings.steps: {apart.argmin()} gives")
            assert note.endswith("largest that was tried.") == (apart.argmin() == LIMIT)
    paths = {name: tmp_path / name for name in ("csv", "markdown", "latex")}
    _write.write(cells, "propagation", "limits", [], paths)
    with paths["csv"].open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["published"]]
    assert {line["column"]: float(line["published"]) for line in lines} == primary()
    for line in lines:
        assert line["row"] == limits.NEAREST
        apart = float(line["value"]) - float(line["published"])
        assert math.isclose(float(line["difference"]), apart, abs_tol=1e-6)
