"""Settings whose value a job chooses: `{choose: [...], by: ...}` in the place of a value.

Such a block stands in the settings of an attack or a purifier and is handed to jobs as it is: what
a job is told does not change with what was chosen. A job that uses the entry also reads
`chosen/{entry}/{classifier}.json`, whose values take the blocks' place when it runs (`resolution`).
Another point, of the same or of another entry, takes the same value by `{chosen: entry point}`,
which `complete` turns into a copy of the block; `of` says whose choice a block is.
"""

import copy
import functools
from collections.abc import Iterator
from typing import NamedTuple

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.kinds import looks_at_model
from advdenoise.graph.resolution import is_block
from advdenoise.graph.sources import existing
from advdenoise.io.published import Published
from advdenoise.ops.files import why_not_readable

KINDS = ("attacks", "purifiers")
DEFAULT = "default"  # the only point of an entry without points


class Block(NamedTuple):
    """A setting of a point whose value is chosen."""

    point: str
    setting: str
    block: dict


def _refers(value) -> bool:
    return isinstance(value, dict) and "chosen" in value


def blocks(entry: dict) -> Iterator[Block]:
    """All blocks of an entry, those that follow another choice among them."""
    for point, settled in entry.get("points", {}).items():
        for setting, value in settled["settings"].items():
            if is_block(value):
                yield Block(point, setting, value)


def own(name: str, entry: dict) -> list[Block]:
    """The blocks that are an entry's own choices."""
    return [b for b in blocks(entry) if b.block["of"] == f"{name} {b.point}"]


def choosing(config: dict) -> dict[str, str]:
    """The kinds of the entries that choose, by name."""
    return {
        name: kind for kind in KINDS for name, entry in config[kind].items() if own(name, entry)
    }


def choosers(entry: dict) -> set[str]:
    """The names of the entries whose choices an entry's blocks are."""
    return {b.block["of"].partition(" ")[0] for b in blocks(entry)}


def attacks(entry: dict) -> set[str]:
    """The attacks that a purifier's settings are chosen under."""
    return {b.block["by"]["attack"].partition(" ")[0] for b in blocks(entry)}


def only(entry: dict, mine: list[Block]) -> dict:
    """An entry with just the points of these blocks, without the settings that are chosen."""
    points = {}
    for block in mine:
        point = entry["points"][block.point]
        settings = {name: v for name, v in point["settings"].items() if name != block.setting}
        points[block.point] = {**point, "settings": settings}
    return {**entry, "points": points}


def as_settings(mine: list[Block]) -> list[dict]:
    """Blocks as the job that chooses is handed them."""
    return [
        {
            "point": b.point,
            "setting": b.setting,
            "candidates": b.block["choose"],
            "by": b.block["by"],
            "wanted": _wanted(b.block["by"].get("mse")),
        }
        for b in mine
    ]


def variants(point: dict) -> Iterator[dict]:
    """The point with each candidate in a block's place; itself where nothing is chosen."""
    chosen = {name: value for name, value in point["settings"].items() if is_block(value)}
    yield {**point, "settings": point["settings"] | {n: v["choose"][0] for n, v in chosen.items()}}
    for name, value in chosen.items():
        for candidate in value["choose"][1:]:
            first = {n: v["choose"][0] for n, v in chosen.items()}
            yield {**point, "settings": point["settings"] | first | {name: candidate}}


def scaled(value, factor: float):
    """A length, or each candidate of one, times a factor; what is no number stays."""
    if is_block(value):
        return value | {"choose": [scaled(candidate, factor) for candidate in value["choose"]]}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value * factor if is_number else value


def at_most(settings):
    """The settings with the largest candidate in each block's place: what a job may have to do."""
    if is_block(settings):
        numbers = [c for c in settings["choose"] if isinstance(c, int | float)]
        return max(numbers, default=settings["choose"][0])
    if isinstance(settings, dict):
        return {name: at_most(item) for name, item in settings.items()}
    if isinstance(settings, list):
        return [at_most(item) for item in settings]
    return settings


# ---------------------------------------------------------------- completion and checks


def complete(config: dict) -> None:
    """Every block says whose choice it is, and what follows another one holds a copy of it."""
    for kind in KINDS:
        for name, entry in config[kind].items():
            for point, settled in entry["points"].items():
                for value in settled["settings"].values():
                    if is_block(value):
                        value["of"] = f"{name} {point}"
    for kind in KINDS:
        for name, entry in config[kind].items():
            for point, settled in entry["points"].items():
                for setting, value in settled["settings"].items():
                    if _refers(value):
                        key = _key(kind, name, point, setting)
                        block = _referred(config, kind, key, setting, value["chosen"])
                        settled["settings"][setting] = copy.deepcopy(block)


def _referred(config: dict, kind: str, key: str, setting: str, text: str) -> dict:
    """The block of that name: an entry of the same kind and, where it has several, its point."""
    name, _, point = text.partition(" ")
    settled = config[kind].get(name, {}).get("points", {}).get(point or DEFAULT)
    value = settled["settings"].get(setting) if settled else None
    if not is_block(value) or value["of"] != f"{name} {point or DEFAULT}":
        there = [
            other.block["of"].removesuffix(f" {DEFAULT}")
            for other_name, entry in config[kind].items()
            for other in own(other_name, entry)
            if other.setting == setting
        ]
        raise BadInput(f"{key}.chosen: {text!r} chooses no {setting!r}; {suggest(text, there)}")
    return value


def check(config: dict) -> None:
    """Refuse choices that no job can make. Every candidate is checked with its function."""
    for kind in ("datasets", "classifiers", "denoisers", "attributions", "detectors"):
        for name, entry in config[kind].items():
            _refuse(f"{kind}.{name}", entry)
    for name, kind in choosing(config).items():
        entry = config[kind][name]
        if name in config[KINDS[0]] and name in config[KINDS[1]]:
            raise BadInput(
                f"{kind}.{name}: an attack and a purifier of one name, of which one chooses; "
                "rename one of them"
            )
        for block in own(name, entry):
            key = _key(kind, name, block.point, block.setting)
            others = [b for b in blocks(entry) if b.point == block.point]
            if len(others) > 1:
                raise BadInput(f"{key}: a point chooses one setting; give the others values")
            (_check_attack if kind == "attacks" else _check_purifier)(key, name, entry, block.block)
    for name, suite in config["suites"].items():
        _check_victims(config, f"suites.{name}.threats", suite["threats"])
    for name, entry in config["denoisers"].items():
        sources = [source["threat"] for source in entry.get("trained_on", []) if "threat" in source]
        _check_victims(config, f"denoisers.{name}.trained_on", sources)


def _refuse(key: str, entry: dict) -> None:
    places = {key: entry, f"{key}.training": entry.get("training", {})}
    places |= {f"{key}.points.{name}": point for name, point in entry.get("points", {}).items()}
    for place, part in places.items():
        for setting, value in part.get("settings", {}).items():
            if is_block(value) or _refers(value):
                raise BadInput(
                    f"{place}.settings.{setting}: only attacks and purifiers choose; give a value"
                )


def _check_attack(key: str, name: str, entry: dict, block: dict) -> None:
    if "mse" not in block["by"]:
        raise BadInput(f"{key}.by: an attack chooses by the noise it makes; give the key 'mse'")
    if not looks_at_model(entry):
        raise BadInput(f"{key}: nothing is chosen for an attack without a model; give a value")
    wanted = block["by"]["mse"]
    if isinstance(wanted, dict):
        _check_published(f"{key}.by.mse", wanted)


def _check_purifier(key: str, name: str, entry: dict, block: dict) -> None:
    if "attack" not in block["by"]:
        raise BadInput(f"{key}.by: a purifier chooses by accuracy; give the key 'attack'")
    if len({b.block["by"]["attack"] for b in own(name, entry)}) > 1:
        raise BadInput(f"{key}.by.attack: the points of an entry choose under one attack; name one")


def _wanted(mse) -> float | None:
    """The mean squared perturbation that is asked for, of a published one its number."""
    return float(published_number(mse)["value"]) if isinstance(mse, dict) else mse


def _check_published(key: str, wanted: dict) -> None:
    path = wanted["published"]
    if reason := why_not_readable(existing(path)):
        raise BadInput(f"{key}.published: {path} {reason}; name a CSV file of published numbers")
    if published_number(wanted) is None:
        places = {f"{row}, {column}" for row, column in _numbers(path)}
        place = f"{wanted['row']}, {wanted['column']}"
        raise BadInput(f"{key}: {path} has no row and column {place!r}; {suggest(place, places)}")


def published_number(wanted: dict) -> dict | None:
    """The printed number of a table's row and column; None where there is none."""
    return _numbers(wanted["published"]).get((wanted["row"], wanted["column"]))


@functools.cache  # a graph asks again for each of its jobs
def _numbers(path: str) -> dict[tuple[str, str], dict]:
    """The lines of a CSV file of published numbers by row and column."""
    file = existing(path)
    return Published(file.parent).numbers(file.stem)


def _check_victims(config: dict, key: str, texts: list[str]) -> None:
    """A job is told an attack once, so that it holds one choice."""
    victims: dict[str, str] = {}
    for text in texts:
        attack, _, rest = text.partition("+")[0].partition("@")
        chooses = attack in config["attacks"] and choosers(config["attacks"][attack])
        if chooses and victims.setdefault(attack, rest) != rest:
            raise BadInput(
                f"{key}: attack {attack!r} chooses for each victim and has several here; "
                "give each an entry of its own"
            )


def _key(kind: str, name: str, point: str, setting: str) -> str:
    place = f"{kind}.{name}" if point == DEFAULT else f"{kind}.{name}.points.{point}"
    return f"{place}.settings.{setting}"
