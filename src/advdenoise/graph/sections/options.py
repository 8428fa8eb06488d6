"""Keys at the top that hold no entries: what is measured, stored and put everywhere."""

import os
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from advdenoise.graph.sections.common import Raw, check_configured

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

Taps = dict[str, list[str]]  # names of modules by classifier

# The batch of a measurement of costs (Al Bared and Nassar 2021, Table 7), and its repetitions.
_COST = {"images": 128, "repetitions": 3}
# How many images the candidates of a choice are compared on.
_CHOOSE = {"images": 1000}


class Distances(TypedDict):
    """Layer-wise distances: observed modules, and on how many images."""

    images: int
    taps: Taps
    post_relu: NotRequired[bool]


class Hidden(TypedDict):
    """Nodes of hidden layers that leave-one-out attributions record."""

    per_layer: int
    taps: Taps


class Detection(TypedDict):
    """How detectors are trained and judged."""

    representations: list[Literal["predicted", "probabilities", "hidden"]]
    protocols: list[Literal["paper", "grouped"]]
    split_seeds: int
    transfer: NotRequired[bool]


class Examples(TypedDict):
    """Images that are stored for figures."""

    images: int
    superpixels: NotRequired[list[str]]
    maps: NotRequired[Taps]


class Cost(TypedDict):
    """How the cost of leave-one-out attributions is measured."""

    images: int
    repetitions: int


class Choose(TypedDict):
    """On how many images a job compares the candidates of a choice."""

    images: int


class Everywhere(TypedDict, total=False):
    """Your own entries that are put into every suite and every crossing of detectors."""

    attacks: list[str]
    purifiers: list[str]
    detectors: list[str]


def complete(config: Raw) -> None:
    """Put defaults in the place of missing keys; `~` of the data root becomes a folder."""
    if config.setdefault("data_root", None):
        config["data_root"] = os.path.expanduser(config["data_root"])
    config.setdefault("protect_weights", False)
    config.setdefault("distances", {"images": 1, "taps": {}})
    config.setdefault("hidden", {"per_layer": 1, "taps": {}})
    config["cost"] = _COST | config.get("cost", {})
    config["choose"] = _CHOOSE | config.get("choose", {})
    config.setdefault("everywhere", {})


def check_references(config: "Configuration") -> None:
    """Check the classifiers whose modules are named, and attributions. Raises BadInput."""
    tapped = {
        "distances.taps": config["distances"]["taps"],
        "hidden.taps": config["hidden"]["taps"],
    }
    examples = config.get("examples")
    if examples:
        tapped["examples.maps"] = examples.get("maps", {})
        for name in examples.get("superpixels", []):
            check_configured(config, "attributions", name, "examples.superpixels")
    for key, taps in tapped.items():
        for classifier in taps:
            check_configured(config, "classifiers", classifier, key)
