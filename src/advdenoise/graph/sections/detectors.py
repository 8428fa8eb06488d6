"""The section `detectors`: binary classifiers on interquartile ranges; positive is adversarial."""

from typing import Required, TypedDict

from advdenoise.graph.sections.common import Point, Raw, lay_out_points


class Detector(TypedDict, total=False):
    """A detector."""

    points: Required[dict[str, Point]]
    datasets: list[str]


def complete(config: Raw) -> None:
    """Lay out points. Raises BadInput."""
    for name, entry in config["detectors"].items():
        lay_out_points(f"detectors.{name}", entry)
