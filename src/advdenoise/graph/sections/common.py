"""What the entries of all sections share: names, functions, points."""

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, get_args

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.components import Signature

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

# A configuration, or a part of it, that has not been checked yet.
Raw = dict[str, Any]
Settings = dict[str, Any]
# The sections whose entries have functions, and all sections whose entries others name.
Kind = Literal[
    "datasets", "classifiers", "attacks", "denoisers", "purifiers", "attributions", "detectors"
]
Named = Kind | Literal["suites"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# The sections that wildcards of paths, and keys of crossings, name entries of.
KIND_OF: dict[str, Named] = {
    "dataset": "datasets",
    "classifier": "classifiers",
    "suite": "suites",
    "purifier": "purifiers",
    "denoiser": "denoisers",
    "detector": "detectors",
    "attribution": "attributions",
}


class Cycle(TypedDict):
    """Perturbation budgets that alternate along a split, each for `every` images in a row."""

    cycle: list[float]
    every: int


class Point(TypedDict):
    """A function with all its settings; an entry has one or more."""

    function: str
    settings: Settings
    epsilons: NotRequired[Cycle]


# ---------------------------------------------------------------- names


def check_configured(config: "Configuration | Raw", kind: Named, name: str, key: str) -> None:
    """Raise BadInput, naming `key`, where a section has no entry of that name."""
    known: Mapping[str, Any] = config[kind]  # type: ignore[literal-required]
    if name not in known:
        raise BadInput(f"{key}: {name!r} is not configured under {kind}; {suggest(name, known)}")


def check_datasets(config: "Configuration") -> None:
    """Raise BadInput where an entry is for a data set that is not configured."""
    for kind in KINDS:
        entries: Mapping[str, Mapping[str, Any]] = config[kind]
        for name, entry in entries.items():
            for dataset in entry.get("datasets", []):
                check_configured(config, "datasets", dataset, f"{kind}.{name}.datasets")


def refuse_name(config: Raw, kind: Kind, name: str) -> None:
    """Raise BadInput where an entry has a name that always stands for images as they are."""
    if name in config[kind]:
        raise BadInput(
            f"{kind}.{name}: {name!r} is always there and means images as they are; give the "
            "entry another name"
        )


# ---------------------------------------------------------------- functions and points


def returned(kind: str, entry: Mapping[str, Any]) -> str:
    """The annotation of what an entry's function returns."""
    return components.signature_of(kind, entry).returns


def lay_out_points(key: str, entry: Raw) -> None:
    """Give every point its function and all its settings; an entry without points gets one.

    Raises BadInput where a point has no function.
    """
    settings = entry.pop("settings", {})
    function = entry.pop("function", None)
    epsilons = entry.pop("epsilons", None)
    points = entry.get("points") or {choices.DEFAULT: {}}
    for name, point in points.items():
        point["settings"] = settings | point.get("settings", {})
        point["function"] = point.get("function", function)
        if point["function"] is None:
            place = f"{key}.points.{name}" if "points" in entry else key
            raise BadInput(f"{place}: the key 'function' is missing; add it")
        if epsilons is not None:
            point.setdefault("epsilons", copy.deepcopy(epsilons))
        if isinstance(point.get("epsilons"), list):
            raise BadInput(f"{key}.points.{name}.epsilons: a point takes a cycle, not a list")
    entry["points"] = points


def check_without_choices(
    config: "Configuration", kind: Literal["attributions", "detectors"]
) -> None:
    """Check each entry of a section by itself, none of which chooses. Raises BadInput."""
    for name, entry in config[kind].items():
        key = f"{kind}.{name}"
        choices.refuse(key, entry)
        for _ in check_points(kind, key, entry["points"]):
            pass


def point_key(key: str, points: Mapping[str, Point], name: str) -> str:
    """Where a point's settings are written: in the entry itself where it is the only one."""
    return key if list(points) == [choices.DEFAULT] else f"{key}.points.{name}"


def check_points(
    kind: Kind, key: str, points: Mapping[str, Point]
) -> Iterator[tuple[str, Point, Signature]]:
    """Check the points of an entry, with every candidate of a setting that is chosen.

    Gives each point with its place in the configuration and the signature of its function. Raises
    BadInput.
    """
    for name, point in points.items():
        place = point_key(key, points, name)
        # The epsilons of a cycle are settings that the stage adds for each image.
        added = ("epsilon",) if "epsilons" in point else ()
        first, *others = choices.variants(point)
        signature = components.check(kind, place, first, added)
        for variant in others:
            components.check(kind, place, variant, added)
        yield place, point, signature
