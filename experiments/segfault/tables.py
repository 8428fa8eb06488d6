"""Tables of "Segmentation Fault": attacks, detectors, superpixels and what they cost."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.measures import accuracy, auc, auc_difference
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from .costs import Cost, costs, key, over_runs
from .labels import CW, LABELS, LENGTHS, REPRESENTATIONS, detector_name, superpixel_name
from .superpixels import ExampleImage, read_superpixels

_DOUBTFUL = (
    "The published accuracy under C&W is doubtful: the authors' notebook computes it from a "
    "variable that another cell has left."
)
# From an example image and its superpixels' printed settings to a row and a column.
Place = Callable[[ExampleImage, list[str]], tuple[str, str]]


def attacks(predictions: Results) -> list[Cell]:
    """Table 1: accuracy in % for each attack (rows) and epsilon in its own unit (columns)."""

    def label(about: dict) -> tuple[str, str]:
        if about["threat"] == "clean":
            return "No attack", "-"
        entry = predictions.attack(about["threat"])
        epsilon = labels.epsilon(entry, about["epsilon"])
        return LABELS.attack(entry, about["attack_point"]), f"eps={epsilon}"

    cells = accuracy(predictions, label, by=("epsilon",))
    is_minimal = any(cell.row == CW for cell in cells)
    return Cells(cells, [_DOUBTFUL] if is_minimal else [])


def detectors(detection: Results) -> list[Cell]:
    """Table 2: AUC of each detector (rows) for each attack and representation (columns).

    A row for each protocol, the paper's under the printed name, and one for their difference.
    """

    def label(about: dict) -> tuple[str, str]:
        return _row(_detector(detection, about), about), _column(detection, about)

    cells = auc(detection, label) + auc_difference(detection, label)
    return Cells(cells, _lengths(detection))


def felzenszwalb_segments(examples: list[Path]) -> list[Cell]:
    """Table 3: how many segments Felzenszwalb's method gives example images, by scale."""
    return _segments(examples, "felzenszwalb", _by_setting)


def quickshift_segments(examples: list[Path]) -> list[Cell]:
    """Table 4: how many segments quick shift gives example images, by sigma and max_dist."""

    def place(example: ExampleImage, settings: list[str]) -> tuple[str, str]:
        sigma, max_dist = settings
        return sigma, f"{example.name} {max_dist}"

    return _segments(examples, "quickshift", place)


def slic_segments(examples: list[Path]) -> list[Cell]:
    """Table 5: how many segments SLIC gives example images, by the number asked for."""
    return _segments(examples, "slic", _by_setting)


def superpixels(detection: Results) -> list[Cell]:
    """Table 6: AUC for each superpixel setting (rows), attack and representation (columns).

    The paper's detector is XGBoost; others are rows of their own, as are other protocols and the
    difference to them.
    """

    def label(about: dict) -> tuple[str, str]:
        printed = _superpixels(detection, about)
        detector = _detector(detection, about)
        named = printed if detector == "XGB" else f"{printed}, {detector}"
        return _row(named, about), _column(detection, about)

    cells = auc(detection, label) + auc_difference(detection, label)
    return Cells(cells, _lengths(detection))


def time_and_memory(cost: Results) -> list[Cell]:
    """Table 7: seconds and bytes for a batch, of each superpixel setting and representation.

    Seconds are those of superpixels and attributions, bytes those of the array that the authors
    keep all attributions in. The interval of seconds is their range over repetitions.
    """
    cells = []
    for one in costs(cost):
        name = REPRESENTATIONS[one.representation]
        seconds = over_runs(one.seconds)
        cells.append(Cell(one.setting, f"time {name}", "time", "s", seconds, about=one.about))
        size = Estimate.without_interval(one.array_bytes, one.images)
        cells.append(Cell(one.setting, f"memory {name}", "memory", "byte", size, about=one.about))
    return Cells(cells, _lengths(cost))


def tradeoff(detection: Results, cost: Results) -> list[Cell]:
    """AUC against cost, what Figure 3 is made of: a row for each setting, attack and detector.

    Beside the AUC stand forward passes of an image, seconds and bytes as in Table 7, and the
    seconds and the peak memory of the interquartile ranges here.
    """
    by_key = {key(one.about): one for one in costs(cost)}

    def label(about: dict) -> tuple[str, str]:
        parts = (function(detection, about) for function in (_superpixels, _column, _detector))
        return _row(", ".join(parts), about), "AUC"

    cells = auc(detection, label)
    return cells + [c for cell in cells for c in _costs(cell, by_key.get(key(cell.about)))]


def _costs(cell: Cell, cost: Cost | None) -> list[Cell]:
    """The cost of one AUC, in the columns beside it; none where it was not measured."""
    if cost is None:
        return []

    def exact(value: float) -> Estimate:
        return Estimate.without_interval(value, cost.images)

    columns = [
        ("passes", "", exact(cost.passes)),
        ("seconds", "s", over_runs(cost.seconds)),
        ("bytes", "byte", exact(cost.array_bytes)),
        ("features, seconds", "s", over_runs(cost.feature_seconds)),
        ("features, bytes", "byte", exact(cost.peak_bytes)),
    ]
    return [
        Cell(cell.row, name, name, unit, estimate, about=cell.about)
        for name, unit, estimate in columns
        if name != "features, bytes" or not math.isnan(cost.peak_bytes)
    ]


def _lengths(results: Results) -> list[str]:
    """A sentence for each vector whose length is not the one that its printed name says."""
    frame = results.frame
    if "values" not in frame:
        return []
    notes = []
    for name, printed in REPRESENTATIONS.items():
        lengths = frame.loc[frame["representation"] == name, "values"].dropna().unique()
        other = sorted({int(length) for length in lengths} - {LENGTHS[name]})
        if other:
            notes.append(f"{printed} has {' or '.join(map(str, other))} values here.")
    return notes


def _by_setting(example: ExampleImage, settings: list[str]) -> tuple[str, str]:
    (setting,) = settings
    return example.name, setting


def _segments(examples: list[Path], method: str, place: Place) -> list[Cell]:
    cells = []
    for example in read_superpixels(examples, method):
        for point, segments in example.maps:
            printed = place(example, labels.superpixel_settings(point))
            count = Estimate.without_interval(len(np.unique(segments)))
            cells.append(Cell(*printed, "segments", "segments", count, about=example.about))
    return cells


def _superpixels(detection: Results, about: dict) -> str:
    attribution = detection.entry("attribution", about["attribution"])
    return superpixel_name(attribution["points"][about["attribution_point"]])


def _detector(detection: Results, about: dict) -> str:
    return detector_name(detection.entry("detector", about["detector"]), about["detector_point"])


def _row(printed: str, about: dict) -> str:
    """The paper splits rows at random; the row of another protocol has its name."""
    return printed if about["protocol"] == "paper" else f"{printed} ({about['protocol']})"


def _column(detection: Results, about: dict) -> str:
    entry = detection.attack(about["threat"])
    attack = LABELS.attack(entry, about["attack_point"])
    return f"{attack} {REPRESENTATIONS[about['representation']]}"
