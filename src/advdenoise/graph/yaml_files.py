"""Configuration files read strictly: what YAML takes in silence, and means otherwise, is refused.

Snakemake reads and merges the files as well, by a loader that keeps the last of two equal keys and
takes `1e-3` for text; what it makes of them is not used.
"""

import copy
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from advdenoise.errors import BadInput
from advdenoise.graph import sources
from advdenoise.ops.files import why_not_readable

DEFAULT = "config/config.yaml"  # of the working directory, or else of the repository
# Values in one file, those that aliases repeat counted each time: many times what any needs.
LARGEST = 50_000
DEEPEST = 100
_TAG = "tag:yaml.org,2002:"
_PLAIN = ("str", "int", "float", "bool", "null", "merge")
_EXPONENT = re.compile(r"([-+]?)(\d*)\.?(\d*)[eE]([-+]?)(\d+)")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][\d_]{0,99})")


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; `BadInput` names the file, the key and the line."""
    text = _text(path)
    try:
        value = _json(path, text)
    except ValueError:
        value = _yaml(path, text)
    except RecursionError:
        raise BadInput(f"{path}: is nested too deeply to be read; take a level out") from None
    if not isinstance(value, dict):
        kind = {list: "a list", type(None): "nothing"}.get(type(value), "a single value")
        raise BadInput(f"{path}: holds {kind}; write keys and their values, such as `seeds: [0]`")
    if "__use_yte__" in value:
        raise BadInput(f"{path}: __use_yte__ would run code in a configuration; take it out")
    return value


def read_files(*paths: Path) -> dict[str, Any]:
    """Files laid over each other, each over those that its `include` lists, earlier below later.

    A file that several include is read once, below all of them. Paths of sources, weights and
    published numbers in a file are relative to it; they become relative to the repository or to the
    working directory. Raises `BadInput`.
    """
    config: dict[str, Any] = {}
    read: set[Path] = set()
    for path in paths:
        for layer in _layers_of_file(path, (), read):
            lay_over(config, layer)
    return config


def of_module(values: dict[str, Any], default: Path) -> dict[str, Any]:
    """The configuration of a Snakemake module: what its `config:` says, laid over the default.

    As in files, it may `include` files, and with a `scale` it replaces the default. Its paths are
    relative to the working directory or, where that has no such file, to the default's folder.
    """
    config: dict[str, Any] = {}
    for layer in _layers(copy.deepcopy(values), "config", (Path(), default.parent), (), set()):
        lay_over(config, layer)
    return config if "scale" in config else lay_over(read_files(default), config)


def _layers_of_file(
    path: Path, above: tuple[Path, ...], read: set[Path]
) -> Iterator[dict[str, Any]]:
    """What a file includes and has not been read yet, then the file itself."""
    own = read_file(path)
    place = path.resolve()
    read.add(place)
    yield from _layers(own, f"{path}", (path.parent,), (*above, place), read)


def _layers(
    own: dict[str, Any],
    source: str,
    folders: tuple[Path, ...],
    above: tuple[Path, ...],
    read: set[Path],
) -> Iterator[dict[str, Any]]:
    """What the values of one source include and has not been read yet, then those values.

    Their paths are relative to the first of `folders` that has the file.
    """
    included = own.pop("include", [])
    if not isinstance(included, list) or not all(isinstance(name, str) for name in included):
        raise BadInput(f"{source}: include: must be a list of files; write [FILE]")
    for name in included:
        path = _folder(name, folders) / os.path.expanduser(name)
        if reason := why_not_readable(path):
            raise BadInput(
                f"{source}: include: {name} {reason}; name a YAML file, relative to this one"
            )
        path = path.resolve()
        if path in above:
            raise BadInput(f"{source}: include: {name} is this file or includes it; take it out")
        if path not in read:
            yield from _layers_of_file(Path(os.path.relpath(path)), above, read)
    yield _with_paths(own, folders)


def _with_paths(config: dict[str, Any], folders: tuple[Path, ...]) -> dict[str, Any]:
    """A source's values with what they say of files as paths from the working directory."""
    config = _with_sources(config, folders)
    for kind in ("classifiers", "denoisers"):
        for entry in _mappings(config.get(kind)):
            if isinstance(entry.get("weights"), str):
                entry["weights"] = _place(entry["weights"], folders)
    for experiment in _mappings(config.get("experiments")):
        if isinstance(experiment.get("published"), str):
            experiment["published"] = _place(experiment["published"], folders)
        if isinstance(experiment.get("labels"), str):
            experiment["labels"] = _place_object(experiment["labels"], folders)
    return config


def _with_sources(value: Any, folders: tuple[Path, ...]) -> Any:
    """A copy in which no two mappings are one object, as aliases make them."""
    if isinstance(value, list):
        return [_with_sources(item, folders) for item in value]
    if not isinstance(value, dict):
        return value
    value = {name: _with_sources(item, folders) for name, item in value.items()}
    if isinstance(value.get("function"), str):
        value["function"] = _place_object(value["function"], folders)
    if isinstance(value.get("mse"), dict) and isinstance(value["mse"].get("published"), str):
        value["mse"]["published"] = _place(value["mse"]["published"], folders)
    return value


def _place_object(text: str, folders: tuple[Path, ...]) -> str:
    """`file.py:name` with the file's path from the working directory; other texts as they are."""
    if sources.file_of(text) is None:
        return text
    file, _, name = text.rpartition(":")
    return f"{_place(file, folders)}:{name}"


def _place(text: str, folders: tuple[Path, ...]) -> str:
    return sources.place(text, _folder(text, folders))


def _folder(text: str, folders: tuple[Path, ...]) -> Path:
    """The first of `folders` in which a path names a file, or else the first."""
    name = os.path.expanduser(text)
    return next((folder for folder in folders if (folder / name).exists()), folders[0])


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [v for v in value.values() if isinstance(v, dict)] if isinstance(value, dict) else []


def merged(paths: Iterable[Path], named: dict[str, Any], default: Path) -> dict[str, Any]:
    """Files laid over each other, `--config` over them, over the default where none has a scale."""
    config = lay_over(read_files(*paths), named)
    return config if "scale" in config else lay_over(read_files(default), config)


def requested(configfiles: list[str], overrides: list[str]) -> dict[str, Any]:
    """Files laid over each other and `name=value` over them, as `--configfile` and `--config`."""
    named: dict[str, Any] = {}
    for text in overrides:
        lay_over(named, override(text))
    return merged(map(Path, configfiles), named, sources.existing(DEFAULT))


def override(text: str) -> dict[str, Any]:
    """What `name=value` of `--config` says, as a mapping."""
    import yaml

    name, _, value = text.partition("=")
    try:
        return {name: typed(yaml.load(value, Loader=yaml.BaseLoader))}
    except yaml.YAMLError:
        return {name: value}


def typed(value: Any) -> Any:
    """Numbers, true, false and null in the place of the texts that `--config` makes of them."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    if not isinstance(value, str):
        return value
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            pass
    return {"true": True, "false": False, "null": None, "": None}.get(value.lower(), value)


def lay_over(config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`config` changed: mappings are merged, other values replaced, as Snakemake does it."""
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            lay_over(config[name], value)
        else:
            config[name] = value
    return config


def _text(path: Path) -> str:
    if reason := why_not_readable(path):
        raise BadInput(f"{path}: {reason}; name a YAML file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: is no text (byte {error.start} is not UTF-8); name a YAML file"
        ) from None


def _json(path: Path, text: str) -> Any:
    """ValueError where it is none."""

    def unique(pairs: Any) -> Any:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"{path}: the key {name!r} is given twice; give it once")
        return dict(pairs)

    def refuse(word: Any) -> NoReturn:
        raise BadInput(f"{path}: {word} is no number to calculate with; write a finite one")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def _yaml(path: Path, text: str) -> Any:
    import yaml

    kind = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = kind(text)
    try:
        _check_depth(path, yaml.parse(text, Loader=kind))
        root = loader.get_single_node()
        if root is None:
            return None
        _Check(path).visit(root, (), ())
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "no YAML")
        raise BadInput(f"{path}: {where}{problem}; correct the YAML") from None
    finally:
        loader.dispose()


def _check_depth(path: Path, events: Any) -> None:
    """Before nodes are made of it: the parser in C would crash."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > DEEPEST:
            raise BadInput(f"{path}: is nested too deeply to be read; take a level out")


class _Check:
    """The nodes of one YAML file, each looked at once, wherever aliases repeat it."""

    def __init__(self, path: Path):
        self._path = path
        self._sizes: dict[int, int] = {}

    def visit(self, node: Any, key: tuple[str, ...], above: tuple[int, ...]) -> int:
        """Refuse what is wrong in a node; how many values it stands for."""
        if id(node) in above:
            self._refuse(node, key, "the anchor holds itself; write out what is meant")
        if id(node) not in self._sizes:
            inner = (*above, id(node))
            parts = self._parts(node, key)
            size = 1 + sum(self.visit(value, (*key, name), inner) for name, value in parts)
            self._sizes[id(node)] = size
            if size > LARGEST:
                self._refuse(
                    node, key, f"aliases make more than {LARGEST} values of it; write what is meant"
                )
        return self._sizes[id(node)]

    def _parts(self, node: Any, key: tuple[str, ...]) -> list[tuple[str, Any]]:
        """What a mapping or list holds, by name."""
        kind = node.tag.removeprefix(_TAG)
        if node.id == "scalar":
            self._scalar(node, key, kind)
            return []
        if kind not in ("map", "seq"):
            self._refuse(node, key, f"the tag {node.tag} is not known; take it out")
        if kind == "seq":
            return [(str(place), item) for place, item in enumerate(node.value)]
        self._keys(node, key)
        return [(name.value, item) for name, item in node.value]

    def _keys(self, node: Any, key: tuple[str, ...]) -> None:
        lines: dict[str, int] = {}
        for name, _ in node.value:
            if name.id != "scalar":
                self._refuse(name, key, "a list or a mapping is no key; write a name")
            line = name.start_mark.line + 1
            if name.value in lines:
                place = ".".join([*key, name.value])
                raise BadInput(
                    f"{self._path}: {place}: the key is given twice, in lines {lines[name.value]} "
                    f"and {line}; give it once"
                )
            lines[name.value] = line
            kind = name.tag.removeprefix(_TAG)
            if kind not in ("str", "int", "float", "merge"):
                self._refuse(
                    name, (*key, name.value), f"the key is read as a {kind}; write it in quotes"
                )

    def _scalar(self, node: Any, key: tuple[str, ...], kind: str) -> None:
        text = _short(node.value)
        if kind == "timestamp":
            self._refuse(node, key, f"{text} is read as a date; write it in quotes")
        if kind not in _PLAIN:
            self._refuse(node, key, f"the tag {node.tag} is not known; take it out")
        match = _EXPONENT.fullmatch(text) if kind == "str" and not node.style else None
        if match and (match[2] or match[3]):
            sign, whole, part, power, digits = match.groups()
            right = f"{sign}{whole or 0}.{part or 0}e{power or '+'}{digits}"
            self._refuse(node, key, f"{text} is read as text and not as a number; write {right}")
        if kind == "float" and ":" not in text and not math.isfinite(_float(node.value)):
            self._refuse(node, key, f"{text} is no finite number; write one")
        if (kind == "int" and not _DECIMAL.fullmatch(node.value)) or (
            kind == "float" and ":" in text
        ):
            self._refuse(node, key, f"{text} is not read as it stands; write a decimal number")

    def _refuse(self, node: Any, key: tuple[str, ...], reason: str) -> NoReturn:
        place = f"{self._path}, line {node.start_mark.line + 1}"
        raise BadInput(": ".join(filter(None, (place, ".".join(key), reason))))


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _float(text: str) -> float:
    """As YAML reads it: `.5`, `1_000.0`, `.inf`, `-.inf`, `.nan`."""
    plain = text.replace("_", "").lower()
    return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
