"""The cost of leave-one-out attributions: a record for each setting and representation."""

import math
from typing import NamedTuple

import numpy as np

from advdenoise.reporting.read import Results, iter_groups
from advdenoise.statistics import Estimate

from .labels import superpixel_name

_ATTRIBUTION = ("dataset", "split", "classifier", "attribution", "attribution_point")
_COMMON = ("dataset", "classifier", "attribution", "attribution_point", "representation")


class Cost(NamedTuple):
    """The cost of one batch.

    `setting` is the printed name of the superpixels, `seconds` [runs] those of superpixels and
    attributions, `feature_seconds` [runs] those of superpixels and interquartile ranges; a run is
    a repetition of one replicate. `passes` of an image are a mean, `array_bytes` hold all
    attributions at once, `peak_bytes` is the most that the features took, NaN if unknown.
    """

    setting: str
    representation: str
    images: int
    values: int
    passes: float
    array_bytes: int
    peak_bytes: float
    seconds: np.ndarray
    feature_seconds: np.ndarray
    about: dict


def costs(cost: Results) -> list[Cost]:
    """The costs in the order of the files."""
    records = []
    for about, rows in iter_groups(cost.frame, (*_ATTRIBUTION, "representation")):
        entry = cost.entry("attribution", about["attribution"])
        rows = rows.sort_values(["seed", "repetition"])
        segmentation = rows["segmentation_seconds"].to_numpy(np.float64)
        records.append(
            Cost(
                setting=superpixel_name(entry["points"][about["attribution_point"]]),
                representation=about["representation"],
                images=int(rows["images"].max()),
                values=int(rows["values"].max()),
                passes=float(rows["passes"].mean()),
                array_bytes=int(rows["array_bytes"].max()),
                peak_bytes=float(rows["peak_bytes"].astype(np.float64).max()),
                seconds=segmentation + rows["passes_seconds"].to_numpy(),
                feature_seconds=segmentation + rows["features_seconds"].to_numpy(),
                about=about,
            )
        )
    return records


def over_runs(values: np.ndarray) -> Estimate:
    """Median and range of a measurement over runs; `n` counts runs.

    NaN where there is no run, or one was not measured.
    """
    if not len(values) or not np.isfinite(values).all():
        return Estimate(math.nan, math.nan, math.nan, len(values))
    return Estimate(float(np.median(values)), float(min(values)), float(max(values)), len(values))


def key(about: dict) -> tuple:
    """The names that a cost and a detection share; their images need not be the same."""
    return tuple(about[name] for name in _COMMON)
