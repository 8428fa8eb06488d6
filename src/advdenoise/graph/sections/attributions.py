"""The section `attributions`: masks of leave-one-out attributions and what is made of them."""

from typing import Literal, Required, TypedDict

from advdenoise.graph.sections.common import Point, Raw, lay_out_points


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
