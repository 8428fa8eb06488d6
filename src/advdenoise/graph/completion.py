"""The configuration in full: defaults, points, pixels as the unit, `everywhere`."""

import copy
import os

from advdenoise.errors import BadInput
from advdenoise.graph import choices
from advdenoise.graph.kinds import KINDS, point_key
from advdenoise.graph.names import check_threat, known
from advdenoise.graph.stages import crossings
from advdenoise.graph.threats import CLEAN, NO_PURIFIER

# The batch of a measurement of costs (Al Bared and Nassar 2021, Table 7), and its repetitions.
_COST = {"images": 128, "repetitions": 3}
# How many images a choice looks at.
_CHOOSE = {"images": 1000}
# Settings of an attack that are lengths in pixels and so follow `epsilon_unit`.
_LENGTHS = ("epsilon", "alpha")


def complete(config: dict) -> None:
    for kind in (*KINDS, "suites"):
        config.setdefault(kind, {})
    for kind, name in (("attacks", CLEAN), ("purifiers", NO_PURIFIER)):
        if name in config[kind]:
            raise BadInput(
                f"{kind}.{name}: {name!r} is always there and means images as they are; give the "
                "entry another name"
            )
    config["purifiers"][NO_PURIFIER] = {"function": "basic.none"}
    if config.setdefault("data_root", None):
        config["data_root"] = os.path.expanduser(config["data_root"])
    config.setdefault("protect_weights", False)
    config.setdefault("distances", {"images": 1, "taps": {}})
    config.setdefault("hidden", {"per_layer": 1, "taps": {}})
    config["cost"] = _COST | config.get("cost", {})
    config["choose"] = _CHOOSE | config.get("choose", {})
    for name, entry in config["attacks"].items():
        _expand_epsilons(f"attacks.{name}", entry)
    for kind in ("attacks", "purifiers", "attributions", "detectors"):
        for name, entry in config[kind].items():
            _lay_points(f"{kind}.{name}", entry)
    for name, entry in config["attacks"].items():
        _convert_unit(f"attacks.{name}", entry)
    choices.complete(config)
    for entry in config["attributions"].values():
        entry.setdefault("masking", 0.0)
        entry.setdefault("quantile", "linear")
    _leave_out_empty_products(config)
    _put_everywhere(config)
    for experiment in config["experiments"].values():
        experiment.setdefault("seeds", config["seeds"])


def _expand_epsilons(key: str, entry: dict) -> None:
    """A list of epsilons becomes one point each; a cycle stays one point."""
    if not isinstance(entry.get("epsilons"), list):
        return
    epsilons = entry.pop("epsilons")
    if "points" in entry:
        raise BadInput(
            f"{key}.epsilons: a list of epsilons makes points of its own; give either it or points"
        )
    width = len(str(len(epsilons)))
    entry["points"] = {
        f"e{place:0{width}d}": {"settings": {"epsilon": epsilon}}
        for place, epsilon in enumerate(epsilons, start=1)
    }


def _lay_points(key: str, entry: dict) -> None:
    """Every point holds its function and all its settings."""
    settings = entry.pop("settings", {})
    function = entry.pop("function", None)
    epsilons = entry.pop("epsilons", None)
    points = entry.get("points") or {"default": {}}
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


def _convert_unit(key: str, entry: dict) -> None:
    """Lengths in another unit become pixels, and every epsilon lies in [0,1]."""
    pixels = entry.get("epsilon_unit", {}).get("pixels", 1.0)
    for name, point in entry["points"].items():
        settings = point["settings"]
        for length in _LENGTHS:
            if length in settings:
                settings[length] = choices.scaled(settings[length], pixels)
        cycle = point.get("epsilons", {}).get("cycle")
        if cycle:
            point["epsilons"]["cycle"] = [epsilon * pixels for epsilon in cycle]
        own = settings.get("epsilon", 0.0)
        own = own["choose"] if choices.is_block(own) else [own]
        for epsilon in [*(cycle or []), *own]:
            if _is_number(epsilon) and not 0 <= epsilon <= 1:
                place = point_key(key, entry, name)
                raise BadInput(
                    f"{place}.settings.epsilon: {epsilon:g} lies outside [0,1]; give it "
                    "in pixels of [0,1] or say its epsilon_unit"
                )


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leave_out_empty_products(config: dict) -> None:
    """Tables and figures that read nothing at this scale; an experiment must have one that does."""
    for name, experiment in config["experiments"].items():
        parts = {part: experiment.setdefault(part, {}) for part in ("tables", "figures")}
        empty = [
            (part, product)
            for part, products in parts.items()
            for product, entry in products.items()
            if not any(stage in entry for stage in crossings())
        ]
        if empty and len(empty) == sum(map(len, parts.values())):
            key = ".".join(("experiments", name, *empty[0]))
            raise BadInput(f"{key}: is made from nothing; add one of {', '.join(crossings())}")
        for part, product in empty:
            del parts[part][product]


def _put_everywhere(config: dict) -> None:
    everywhere = config.setdefault("everywhere", {})
    for kind in ("purifiers", "detectors"):
        for name in everywhere.get(kind, []):
            known(config, kind, name, f"everywhere.{kind}")
    for text in everywhere.get("attacks", []):
        check_threat(config, text, "everywhere.attacks")
    for suite in config["suites"].values():
        for key, name in (("attacks", "threats"), ("purifiers", "purifiers")):
            present = suite.setdefault(name, [])
            present += [item for item in everywhere.get(key, []) if item not in present]
    for experiment in config["experiments"].values():
        for part in ("tables", "figures"):
            for product in experiment[part].values():
                _list_crossings(product, everywhere.get("detectors", []))


def _list_crossings(product: dict, detectors: list[str]) -> None:
    """Every crossing becomes a list of mappings from key to list of names."""
    for stage in crossings():
        given = product.get(stage)
        if given is None:
            continue
        listed = given if isinstance(given, list) else [given]
        product[stage] = [
            {key: [v] if isinstance(v, str) else list(v) for key, v in crossing.items()}
            for crossing in listed
        ]
        if stage == "detection":
            for crossing in product[stage]:
                names = crossing.setdefault("detector", [])
                names += [name for name in detectors if name not in names]
