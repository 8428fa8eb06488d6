"""What entries of classifiers and denoisers share: trained or with weights, and what they take.

Imported by jobs; what is checked of a training stands in `training`.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from advdenoise.errors import BadInput

# Keys of an entry that say how images and outputs are converted (`inference.adapters`).
CONVERSION = ("mean", "std", "size", "channels", "outputs")


class Conversion(TypedDict, total=False):
    """What a network takes: pixels less `mean`, divided by `std`, resized to `size`, `channels`."""

    mean: float | list[float]
    std: float | list[float]
    size: int | list[int]
    channels: Literal[1, 3]


def conversion(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an entry that say what its network takes and gives."""
    return {key: entry[key] for key in CONVERSION if key in entry}


def check_origin(key: str, entry: Mapping[str, Any]) -> None:
    """Raise BadInput unless an entry's weights come from a file or from a training."""
    if "weights" not in entry:
        if "training" not in entry:
            raise BadInput(
                f"{key}: the key 'training' is missing; add it, or `weights` with the file of a "
                "trained network"
            )
        return
    for other in ("training", "trained_on"):
        if other in entry:
            raise BadInput(
                f"{key}.{other}: stands beside `weights`, with which nothing is trained; take "
                "one of them out"
            )
    if entry.get("settings", {}).get("weights"):
        raise BadInput(f"{key}.settings.weights: stands beside {key}.weights; take one of them out")


def check_conversion(key: str, entry: Mapping[str, Any]) -> None:
    """Raise BadInput where means or deviations are not one for each channel."""
    for name in ("mean", "std"):
        values, channels = entry.get(name), entry.get("channels")
        if isinstance(values, list) and channels and len(values) not in (1, channels):
            raise BadInput(
                f"{key}.{name}: {len(values)} values for {channels} channels; give one number or "
                f"{channels}"
            )
