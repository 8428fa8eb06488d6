"""The section `attributions`: masks of leave-one-out attributions and what is made of them."""

from typing import TYPE_CHECKING, Literal, Required, TypedDict

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


class Attribution(TypedDict, total=False):
    """An attribution; `masking` is the value of masked pixels, in [0,1] or the image's mean."""

    points: Required[dict[str, Point]]
    masking: Required[float | Literal["image_mean"]]
    quantile: Required[Literal["linear", "inverted_cdf"]]
    channels: Literal["together", "apart"]
    rounding: Literal["none", "float32"]
    datasets: list[str]


def complete(config: Raw) -> None:
    """Lay out points; pixels are masked with 0 and quantiles interpolated. Raises BadInput."""
    for name, entry in config["attributions"].items():
        lay_out_points(f"attributions.{name}", entry)
        entry.setdefault("masking", 0.0)
        entry.setdefault("quantile", "linear")


def check(config: "Configuration") -> None:
    """Check each attribution by itself. Raises BadInput."""
    for name, entry in config["attributions"].items():
        key = f"attributions.{name}"
        choices.refuse(key, entry)
        for _ in check_points("attributions", key, entry["points"]):
            pass


def check_references(config: "Configuration") -> None:
    """Check that each attribution's data sets are configured. Raises BadInput."""
    check_datasets(config, "attributions")
