"""From a configuration entry to its function: loading, checking, handing over what it asks for.

An entry says `function: module.name` and `settings:`; the folder of its kind (`attacks/`,
`denoisers/`, ...) holds the module. There is no registry: a function's keyword-only parameters are
its settings, its other parameters are what it is handed by name when it runs.
"""

import ast
import contextlib
import functools
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from advdenoise import ranges
from advdenoise.errors import BadInput, suggest
from advdenoise.graph.digests import parsed

LIBRARY = Path(__file__).parents[1]
# Settings of networks that name weights to start from.
_FIRST_WEIGHTS = ("pretrained", "weights")


def _package(kind: str) -> str:
    """Where the components of a kind are, below the library."""
    return f"reporting.{kind}" if kind in ("tables", "figures") else kind


def _folder(kind: str) -> Path:
    return LIBRARY.joinpath(*_package(kind).split("."))


class Signature(NamedTuple):
    """What a component asks for: `handed` by name, `required` and `optional` settings.

    `needed` are those of `handed` that have no default: it cannot do without them.
    `types` are the annotations of settings, `defaults` the values of optional ones,
    `returns` is the annotation of what it gives.
    """

    handed: tuple[str, ...]
    needed: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    types: dict[str, Any]
    defaults: dict
    returns: str

    @property
    def settings(self) -> tuple[str, ...]:
        return self.required + self.optional


def module_file(kind: str, entry: dict) -> Path:
    """The source file that holds an entry's function."""
    return _folder(kind) / f"{entry['function'].partition('.')[0]}.py"


def without_first_weights(kind: str, entry: dict) -> dict:
    """The entry without the weights that a training starts from, which may have to be fetched.

    A function that needs such a setting gets it, for it cannot be called without.
    """
    settings = entry.get("settings", {})
    left_out = {*settings} & {*_FIRST_WEIGHTS}
    if left_out:
        left_out -= {*_signature_of(kind, entry).required}
    kept = {name: value for name, value in settings.items() if name not in left_out}
    return {**entry, "settings": kept}


def named_files(kind: str, entry: dict) -> dict[str, list[str]]:
    """The files that an entry's settings name, by setting, relative to the working directory.

    Any text is one, or any of a list, that is the path of a file, also where it is a setting's
    default. What `weights` of a network says is one that has to be there, unless it is a word alone
    (`imagenet`), which may stand for weights that a library fetches.
    """
    files = {}
    for name, value in (_signature_of(kind, entry).defaults | entry.get("settings", {})).items():
        texts = [text for text in (value if isinstance(value, list) else [value]) if text]
        texts = [os.path.expanduser(text) for text in texts if isinstance(text, str)]
        needed = kind in ("classifiers", "denoisers") and name == "weights"
        if paths := [t for t in texts if _is_file(t) or (needed and _is_path(t))]:
            files[name] = paths
    return files


# A graph of thousands of jobs asks about the same few words again and again.
_is_file = functools.cache(os.path.isfile)


def _is_path(text: str) -> bool:
    return os.sep in text or Path(text).suffix[1:].islower()


def _signature_of(kind: str, entry: dict) -> "Signature":
    """The signature of an entry's function, which has been checked before."""
    module, _, name = entry["function"].partition(".")
    return signatures(kind, module)[name]


def imported(kind: str, module: str) -> ModuleType:
    """A module of the library that holds components of a kind."""
    return importlib.import_module(f"advdenoise.{_package(kind)}.{module}")


def load(kind: str, entry: dict) -> functools.partial:
    """The entry's function with its settings bound. The only dynamic import of the project."""
    module, _, name = entry["function"].partition(".")
    function = getattr(imported(kind, module), name)
    return functools.partial(function, **entry.get("settings", {}))


@functools.cache
def signatures(kind: str, module: str) -> dict[str, Signature]:
    """The public functions of one module, read from its syntax tree: no import, no torch."""
    tree = parsed(_folder(kind) / f"{module}.py")
    return {
        node.name: _signature(node.args, ast.unparse(node.returns) if node.returns else "")
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _signature(arguments: ast.arguments, returns: str) -> Signature:
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required, optional = [], []
    for argument, default in keywords:
        (required if default is None else optional).append(argument.arg)
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    types = {a.arg: _annotation(a.annotation) for a in arguments.kwonlyargs if a.annotation}
    defaults = _defaults(arguments)
    needed = names[: len(names) - len(arguments.defaults)]
    kinds = (tuple(kind) for kind in (names, needed, required, optional))
    return Signature(*kinds, types, defaults, returns)


class _Names(dict):
    """What an annotation may be written with; any other name stands for itself."""

    def __missing__(self, name: str) -> type:
        return ranges.Other


_NAMES = _Names(
    {name: value for name, value in vars(ranges).items() if not name.startswith("_")}
    | {"int": int, "float": float, "bool": bool, "str": str}
    | {"list": list, "tuple": tuple, "dict": dict}
)


def _annotation(node: ast.expr) -> Any:
    """The annotation of a setting: plain types, ranges and `ranges.Other` for all else."""
    code = compile(ast.Expression(node), "annotation", "eval")
    try:
        return eval(code, {"__builtins__": {}}, _NAMES)
    except Exception:  # written with what only its module knows
        return Any


def _defaults(arguments: ast.arguments) -> dict:
    """The defaults of settings, as far as they are written as plain values."""
    defaults = {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        with contextlib.suppress(ValueError):
            if default is not None:
                defaults[argument.arg] = ast.literal_eval(default)
    return defaults


@functools.cache
def modules(kind: str) -> tuple[str, ...]:
    """The public modules of a kind."""
    return tuple(sorted(p.stem for p in _folder(kind).glob("*.py") if not p.stem.startswith("_")))


def functions(kind: str) -> list[str]:
    """Every component of a kind as `module.function`."""
    return [f"{module}.{name}" for module in modules(kind) for name in signatures(kind, module)]


def signature(kind: str, key: str, function: str) -> Signature:
    """The signature of `module.function`; BadInput naming `key` where there is no such function."""
    if function not in functions(kind):
        raise BadInput(
            f"{key}.function: {function!r} is not a function of {_package(kind)}/; "
            f"{suggest(function, functions(kind))}"
        )
    module, _, name = function.partition(".")
    return signatures(kind, module)[name]


def check(kind: str, key: str, entry: dict, engine: tuple[str, ...] = ()) -> Signature:
    """Refuse an unknown function, an unknown or missing setting or one out of its range.

    `key` is the entry's place in the configuration, `engine` the settings that its stage adds by
    itself (an attack's epsilon per image). Raises `BadInput`; returns the function's signature.
    """
    found = signature(kind, key, entry["function"])
    settings = entry.get("settings", {})
    for name in settings:
        if name not in found.settings:
            raise BadInput(
                f"{key}.settings.{name}: {entry['function']} has no such setting; "
                f"{suggest(name, found.settings)}"
            )
        kind = found.types.get(name, Any)
        if sentence := ranges.fault(f"{key}.settings.{name}", settings[name], kind):
            raise BadInput(sentence)
    for name in found.required:
        if name not in settings and name not in engine:
            function = entry["function"]
            raise BadInput(f"{key}.settings: {function} needs the setting {name!r}; add it")
    return found
