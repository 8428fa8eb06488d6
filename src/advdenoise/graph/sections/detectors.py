"""The section `detectors`: binary classifiers on interquartile ranges; positive is adversarial."""

from typing import TYPE_CHECKING, Required, TypedDict

from advdenoise.graph import choices
from advdenoise.graph.sections.common import (
    Point,
    Raw,
    check_datasets,
    check_points,
    lay_out_points,
)

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration


class Detector(TypedDict, total=False):
    """A detector."""

    points: Required[dict[str, Point]]
    datasets: list[str]


def complete(config: Raw) -> None:
    """Lay out points. Raises BadInput."""
    for name, entry in config["detectors"].items():
        lay_out_points(f"detectors.{name}", entry)


def check(config: "Configuration") -> None:
    """Check each detector by itself. Raises BadInput."""
    for name, entry in config["detectors"].items():
        key = f"detectors.{name}"
        choices.refuse(key, entry)
        for _ in check_points("detectors", key, entry["points"]):
            pass


def check_references(config: "Configuration") -> None:
    """Check that each detector's data sets are configured. Raises BadInput."""
    check_datasets(config, "detectors")
