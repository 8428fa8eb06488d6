"""Settings whose value a job chooses: `{choose: [...], by: ...}` in the place of a value.

Such a block stands in the settings of an attack or a purifier and is passed to jobs as it is, so
that a job's settings do not change with what was chosen. A job that uses the entry also reads
`chosen/{entry}/{classifier}.json`, whose values take the blocks' place when it runs (`resolution`).
Another point, of the same or of another entry, takes the same value by `{chosen: entry point}`,
which `complete` turns into a copy of the block; `of` says whose choice a block is.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.resolution import is_block
from advdenoise.graph.sources import existing
from advdenoise.io.published import Published
from advdenoise.ops.files import why_not_readable

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

DEFAULT = "default"  # the only point of an entry without points


class Block(NamedTuple):
    """A setting of a point whose value is chosen."""

    point: str
    setting: str
    block: dict[str, Any]


def _refers(value: Any) -> bool:
    return isinstance(value, dict) and "chosen" in value


def blocks(entry: Mapping[str, Any]) -> Iterator[Block]:
    """All blocks of an entry, those that follow another choice among them."""
    for name, point in entry.get("points", {}).items():
        for setting, value in point["settings"].items():
            if is_block(value):
                yield Block(name, setting, value)


def own(name: str, entry: Mapping[str, Any]) -> list[Block]:
    """The blocks that are an entry's own choices."""
    return [b for b in blocks(entry) if b.block["of"] == f"{name} {b.point}"]


def choosing(config: "Configuration") -> dict[str, Literal["attacks", "purifiers"]]:
    """The sections of the entries that choose, by name."""
    kinds: dict[str, Literal["attacks", "purifiers"]] = {}
    for name, attack in config["attacks"].items():
        if own(name, attack):
            kinds[name] = "attacks"
    for name, purifier in config["purifiers"].items():
        if own(name, purifier):
            kinds[name] = "purifiers"
    return kinds


def choosers(entry: Mapping[str, Any]) -> set[str]:
    """The names of the entries whose choices an entry's blocks are."""
    return {b.block["of"].partition(" ")[0] for b in blocks(entry)}


def attacks(entry: Mapping[str, Any]) -> set[str]:
    """The attacks that a purifier's settings are chosen under."""
    return {b.block["by"]["attack"].partition(" ")[0] for b in blocks(entry)}


def only(entry: Mapping[str, Any], chosen: list[Block]) -> dict[str, Any]:
    """An entry with just the points of these blocks, without the settings that are chosen."""
    points = {}
    for block in chosen:
        point = entry["points"][block.point]
        settings = {name: v for name, v in point["settings"].items() if name != block.setting}
        points[block.point] = {**point, "settings": settings}
    return {**entry, "points": points}


def as_settings(chosen: list[Block]) -> list[dict[str, Any]]:
    """Blocks as settings of the job that chooses."""
    return [
        {
            "point": b.point,
            "setting": b.setting,
            "candidates": b.block["choose"],
            "by": b.block["by"],
            "wanted": _target_mse(b.block["by"].get("mse")),
        }
        for b in chosen
    ]


def variants(point: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The point with each candidate in a block's place; itself where nothing is chosen."""
    candidates = {n: v["choose"] for n, v in point["settings"].items() if is_block(v)}
    settings = point["settings"] | {name: values[0] for name, values in candidates.items()}
    yield {**point, "settings": settings}
    for name, values in candidates.items():
        for value in values[1:]:
            yield {**point, "settings": settings | {name: value}}


def scaled(value: Any, factor: float) -> Any:
    """A length, or each candidate of one, times a factor; other values are returned as they are."""
    if is_block(value):
        return value | {"choose": [scaled(candidate, factor) for candidate in value["choose"]]}
    return value * factor if is_number(value) else value


def is_number(value: Any) -> bool:
    """Whether a setting's value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def at_most(settings: Any) -> Any:
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


def complete(entries: dict[str, Any], kind: str) -> None:
    """Write into every block whose choice it is, and copy blocks to the points that follow them.

    `entries` are all attacks or all purifiers, with their points laid out. Raises BadInput.
    """
    for name, entry in entries.items():
        for own_block in blocks(entry):
            own_block.block["of"] = f"{name} {own_block.point}"
    for name, entry in entries.items():
        for point_name, point in entry["points"].items():
            for setting, value in point["settings"].items():
                if _refers(value):
                    key = _key(kind, name, point_name, setting)
                    block = _referred(entries, key, setting, value["chosen"])
                    point["settings"][setting] = copy.deepcopy(block)


def _referred(entries: dict[str, Any], key: str, setting: str, text: str) -> dict[str, Any]:
    """The block of that name: an entry of the same kind and, where it has several, its point."""
    name, _, point = text.partition(" ")
    for other in own(name, entries.get(name, {})):
        if (other.point, other.setting) == (point or DEFAULT, setting):
            return other.block
    options = [
        other.block["of"].removesuffix(f" {DEFAULT}")
        for other_name, entry in entries.items()
        for other in own(other_name, entry)
        if other.setting == setting
    ]
    raise BadInput(f"{key}.chosen: {text!r} chooses no {setting!r}; {suggest(text, options)}")


def refuse(key: str, entry: Mapping[str, Any]) -> None:
    """Raise BadInput where a setting of an entry that cannot choose is to be chosen."""
    places = {key: entry, f"{key}.training": entry.get("training", {})}
    places |= {f"{key}.points.{name}": point for name, point in entry.get("points", {}).items()}
    for place, part in places.items():
        for setting, value in part.get("settings", {}).items():
            if is_block(value) or _refers(value):
                raise BadInput(
                    f"{place}.settings.{setting}: only attacks and purifiers choose; give a value"
                )


def check_own(kind: str, name: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, Block]]:
    """An entry's own choices, each with its key. Raises BadInput where a point has several."""
    for block in own(name, entry):
        key = _key(kind, name, block.point, block.setting)
        if sum(other.point == block.point for other in blocks(entry)) > 1:
            raise BadInput(f"{key}: a point chooses one setting; give the others values")
        yield key, block


def _target_mse(mse: float | dict[str, str] | None) -> float | None:
    """The mean squared perturbation to choose for, in pixels^2; of a published one its number."""
    if not isinstance(mse, dict):
        return mse
    number = published_number(mse)
    return None if number is None else float(number["value"])


def check_published(key: str, number: dict[str, str]) -> None:
    """Raise BadInput unless a published number is there: a CSV file, its row and its column."""
    path = number["published"]
    if reason := why_not_readable(existing(path)):
        raise BadInput(f"{key}.published: {path} {reason}; name a CSV file of published numbers")
    if published_number(number) is None:
        places = {f"{row}, {column}" for row, column in _numbers(path)}
        place = f"{number['row']}, {number['column']}"
        raise BadInput(f"{key}: {path} has no row and column {place!r}; {suggest(place, places)}")


def published_number(number: dict[str, str]) -> dict[str, str] | None:
    """The line of a published number, by its row and column; None where there is none."""
    return _numbers(number["published"]).get((number["row"], number["column"]))


@functools.cache  # a graph asks again for each of its jobs
def _numbers(path: str) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a CSV file of published numbers by row and column."""
    file = existing(path)
    return Published(file.parent).numbers(file.stem)


def _key(kind: str, name: str, point: str, setting: str) -> str:
    place = f"{kind}.{name}" if point == DEFAULT else f"{kind}.{name}.points.{point}"
    return f"{place}.settings.{setting}"
