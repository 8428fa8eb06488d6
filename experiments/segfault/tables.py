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

from .claims import CW
from .costs import Cost, costs, key, over_runs
from .labels import LABELS, LENGTHS, REPRESENTATIONS, detector_name, superpixel_name
from .superpixels import Example, read_examples

_DOUBTFUL = (
    "The published accuracy under C&W is doubtful: the authors' notebook computes it from a "
    "variable that another cell has left."
)
# From an example image and its superpixels' printed settings to a row and a column.
Place = Callable[[Example, list[str]], tuple[str, str]]


def attacks(predictions: Results) -> list[Cell]:
    """Table 1: accuracy in % for each attack (rows) and epsilon in its own unit (columns)."""

    def label(about: dict) -> tuple[str, str]:
        if about["threat"] == "clean":
            return "No attack", "-"
        entry = predictions.attack(about["threat"])
        name = about["threat"].partition("@")[0]
        epsilon = labels.epsilon(entry, about["epsilon"])
        return LABELS.attack(entry, about["attack_point"], name), f"eps={epsilon}"

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

    def place(example: Example, settings: list[str]) -> tuple[str, str]:
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
        attribution = detection.entry("attribution", about["attribution"])
        printed = superpixel_name(attribution["points"][about["attribution_point"]])
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
    for found in costs(cost):
        row = found.setting
        shown = REPRESENTATIONS[found.representation]
        seconds = over_runs(found.seconds)
        cells.append(Cell(row, f"time {shown}", "time", "s", seconds, about=found.about))
        size = _exactly(found.array_bytes, found.images)
        cells.append(Cell(row, f"memory {shown}", "memory", "byte", size, about=found.about))
    return Cells(cells, _lengths(cost))


def tradeoff(detection: Results, cost: Results) -> list[Cell]:
    """AUC against cost, what Figure 3 is made of: a row for each setting, attack and detector.

    Beside the AUC stand forward passes of an image, seconds and bytes as in Table 7, and what the
    interquartile ranges took here: seconds, and the most memory.
    """
    paid = {key(found.about): found for found in costs(cost)}

    def label(about: dict) -> tuple[str, str]:
        attribution = detection.entry("attribution", about["attribution"])
        printed = superpixel_name(attribution["points"][about["attribution_point"]])
        row = f"{printed}, {_column(detection, about)}, {_detector(detection, about)}"
        return _row(row, about), "AUC"

    cells = auc(detection, label)
    return cells + [more for cell in cells for more in _paid(cell, paid.get(key(cell.about)))]


def _paid(cell: Cell, cost: Cost | None) -> list[Cell]:
    """The cost of one AUC, in the columns beside it; none where it was not measured."""
    if cost is None:
        return []
    known = not math.isnan(cost.peak_bytes)
    columns = [
        ("passes", "", _exactly(cost.passes, cost.images)),
        ("seconds", "s", over_runs(cost.seconds)),
        ("bytes", "byte", _exactly(cost.array_bytes, cost.images)),
        ("features, seconds", "s", over_runs(cost.feature_seconds)),
        *([("features, bytes", "byte", _exactly(cost.peak_bytes, cost.images))] if known else []),
    ]
    return [
        Cell(cell.row, name, name, unit, estimate, about=cell.about)
        for name, unit, estimate in columns
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


def _by_setting(example: Example, settings: list[str]) -> tuple[str, str]:
    (setting,) = settings
    return example.name, setting


def _segments(examples: list[Path], method: str, place: Place) -> list[Cell]:
    cells = []
    for example in read_examples(examples, method):
        for point, segments in example.maps:
            printed = place(example, labels.superpixel_settings(point))
            count = _exactly(len(np.unique(segments)), 1)
            cells.append(Cell(*printed, "segments", "segments", count, about=example.about))
    return cells


def _exactly(value: float, n: int) -> Estimate:
    """A number that was not estimated."""
    return Estimate(value, math.nan, math.nan, n)


def _detector(detection: Results, about: dict) -> str:
    return detector_name(detection.entry("detector", about["detector"]), about["detector_point"])


def _row(printed: str, about: dict) -> str:
    """The paper splits rows at random; another protocol is a row of its own."""
    return printed if about["protocol"] == "paper" else f"{printed} ({about['protocol']})"


def _column(detection: Results, about: dict) -> str:
    entry = detection.attack(about["threat"])
    attack = LABELS.attack(entry, about["attack_point"], about["threat"].partition("@")[0])
    return f"{attack} {REPRESENTATIONS[about['representation']]}"
