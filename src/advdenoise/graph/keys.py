"""The keys of a configuration as `config/schema.yaml` describes them, for the reference."""

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from advdenoise.errors import BadInput
from advdenoise.graph.schema import SCHEMA, schema
from advdenoise.ranges import Interval

_NOUNS = {
    "name": "a name",
    "names": "a list of names",
    "one_or_more": "a name or a list of names",
    "threat": "a threat",
    "threats": "a list of threats",
    "function": "a function",
    "folder": "a folder",
    "crossings": "a `crossing` or a list of them",
}
_TYPES = {
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a mapping",
}
# The largest number that the workflow can hold; as a bound it tells a reader nothing.
_LARGEST = 2**31 - 1


class Key(NamedTuple):
    """A key: where it stands, what it may hold, what it means."""

    path: str
    values: str
    description: str
    required: bool


class Section(NamedTuple):
    """A part of the configuration with its keys; `shared` is one that stands in several places."""

    name: str
    description: str
    keys: tuple[Key, ...]
    shared: bool


@functools.cache
def sections() -> tuple[Section, ...]:
    """The keys at the top, those of each mapping at the top, then those of shared mappings.

    Raises BadInput where the library is installed without the repository.
    """
    if not SCHEMA.is_file():
        raise BadInput(f"keys: there is no {SCHEMA}; use the library of a clone of the repository")
    whole = schema()
    top, inner = [], []
    for name, node in whole["properties"].items():
        keys = tuple(_below(_resolved(node), name))
        top.append(_key(name, node, name in whole["required"]))
        if keys:
            inner.append(Section(name, _resolved(node)["description"], keys, False))
    for name in _shared():
        node = whole["$defs"][name]
        inner.append(Section(name, node["description"], tuple(_below(node, "")), True))
    return (Section("configuration", whole["description"], tuple(top), False), *inner)


@functools.cache
def _shared() -> tuple[str, ...]:
    """The definitions with keys of their own that several places refer to."""
    whole = schema()
    counts = Counter(_references(whole))
    defined = whole["$defs"].items()
    return tuple(name for name, node in defined if counts[name] > 1 and _has_keys(node))


def _has_keys(node: dict[str, Any]) -> bool:
    own = "properties" in node or isinstance(node.get("additionalProperties"), dict)
    return own or any(_has_keys(option) for option in _options(node))


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if reference := _reference(node):
            yield reference
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _reference(node: dict[str, Any]) -> str | None:
    return node["$ref"].rpartition("/")[2] if "$ref" in node else None


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    """A node over the definition that it refers to."""
    if "$ref" not in node:
        return node
    own = {name: value for name, value in node.items() if name != "$ref"}
    return _resolved(schema()["$defs"][_reference(node)]) | own


def _is_shared(node: dict[str, Any]) -> bool:
    return _reference(node) in _shared()


def _below(node: dict[str, Any], path: str) -> Iterator[Key]:
    """The keys of a mapping and of those in it, down to shared mappings."""
    for name, inner in node.get("properties", {}).items():
        place = f"{path}.{name}".lstrip(".")
        yield _key(place, inner, name in node.get("required", ()))
        yield from _inside(inner, place)
    inner = node.get("additionalProperties")
    if isinstance(inner, dict):
        place = f"{path}.NAME".lstrip(".")
        if "properties" not in _resolved(inner):
            yield _key(place, inner, False)
        yield from _inside(inner, place)
    for option in filter(None, _options(node)):
        yield from _inside(option, path)
    if "items" in node:
        yield from _inside(node["items"], f"{path}[]")


def _inside(node: dict[str, Any], path: str) -> Iterator[Key]:
    if _reference(node) is None or not _is_shared(node):
        yield from _below(_resolved(node), path)


def _options(node: dict[str, Any]) -> list[dict[str, Any]]:
    """What a node may be instead: of `anyOf`, and of conditions that mappings fulfil."""
    options = list(node.get("anyOf", []))
    for name in ("then", "else") if "if" in node else ():
        inner = node.get(name, {})
        options += _options(inner) if "if" in inner else [inner]
    return options


def _key(path: str, node: dict[str, Any], required: bool) -> Key:
    return Key(path, _values(node), _resolved(node).get("description", ""), required)


def _values(node: dict[str, Any]) -> str:
    """What a node may hold, in words; `see NAME` of a shared mapping."""
    name = _reference(node)
    if name in _NOUNS:
        return _NOUNS[name]
    if name and _is_shared(node):
        return f"see `{name}`"
    if name and "$ref" in schema()["$defs"][name]:
        return _values(schema()["$defs"][name])
    node = _resolved(node)
    for word in ("enum", "const"):
        if word in node:
            values = node[word] if word == "enum" else [node[word]]
            return " or ".join(f"`{value}`" for value in values)
    if "anyOf" in node or "if" in node:
        words = [_values(option) for option in _options(node)]
        return " or ".join(dict.fromkeys(words))
    if node.keys() <= {"description"}:
        return "any value"
    types = node.get("type", "object")
    types = [types] if isinstance(types, str) else types
    return " or ".join(_of_type(name, node) for name in types)


def _of_type(name: str, node: dict[str, Any]) -> str:
    words = _TYPES[name]
    if name in ("integer", "number"):
        bounds = Interval(
            gt=node.get("exclusiveMinimum"),
            ge=node.get("minimum"),
            lt=node.get("exclusiveMaximum"),
            le=_upper(node),
        )
        return words if bounds == Interval() else f"{words} {bounds}"
    if name == "array":
        exact = "minItems" in node and node["minItems"] == node.get("maxItems")
        count = f" of {node['minItems']}" if exact else ""
        return f"{words}{count}, each {_values(node['items'])}"
    inner = node.get("additionalProperties")
    if isinstance(inner, dict) and _is_shared(inner):
        return f"names, each with a {_reference(inner)}, see `{_reference(inner)}`"
    return "entries by name" if isinstance(inner, dict) else words


def _upper(node: dict[str, Any]) -> float | None:
    most = node.get("maximum")
    return None if most is None or most >= _LARGEST else most
