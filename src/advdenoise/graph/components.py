"""The signatures of components: what each is handed, which settings it has, in which ranges.

There is no registry: a function's keyword-only parameters are its settings, its other parameters
are what it is handed by name when it runs. Of a function or class from elsewhere (`package:name`,
`file.py:name`) every parameter that its kind is not handed is a setting. Signatures are read from
the syntax tree: no import, no torch.
"""

import ast
import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from advdenoise import ranges
from advdenoise.errors import BadInput, suggest
from advdenoise.graph.sources import definition, definitions, is_own, locate
from advdenoise.graph.stages import crossings

# What components of each kind can be handed by name; tables and figures are handed products.
INJECTED = {
    "datasets": {"root"},
    "classifiers": {"shape", "classes"},
    "denoisers": {"shape"},
    "attacks": {"images", "labels", "targeted", "predict", "victim", "classifier", "denoise"}
    | {"error", "noise", "callback", "facts", "select"},
    "purifiers": {"images", "denoise", "error", "calibration", "generate", "noise"},
    "training": {"model", "images", "labels", "masks", "targets", "network", "reference", "noise"}
    | {"epoch", "iteration"},
    "attributions": {"image"},
    "detectors": {"seed", "threads"},
}
# What a purifier, or an attack on one, is handed of its denoiser.
OF_DENOISERS = {"denoise", "error", "calibration", "generate"}
# Settings of networks that name weights to start from.
_FIRST_WEIGHTS = ("pretrained", "weights")
# Kinds whose components build an object, which a class does as well.
_BUILD = ("datasets", "classifiers", "denoisers", "detectors")


class Signature(NamedTuple):
    """What a component asks for: `injected` by name, `required` and `optional` settings.

    `required_injected` are those of `injected` that have no default.
    `types` are the annotations of settings, `defaults` the values of optional ones and `written`
    their source text. `returns` is the annotation of what it gives, of a class its name. `open` is
    one that takes any further setting (`**settings`).
    """

    injected: tuple[str, ...]
    required_injected: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    types: dict[str, Any]
    defaults: dict[str, Any]
    written: dict[str, str]
    returns: str
    open: bool = False

    @property
    def settings(self) -> tuple[str, ...]:
        return self.required + self.optional


def signature(kind: str, key: str, function: str) -> Signature:
    """The signature of an entry's function; BadInput naming `key` where there is no such one."""
    source = locate(kind, key, function)
    return _signature(kind, is_own(function), source.file, source.name)


def signature_of(kind: str, entry: Mapping[str, Any]) -> Signature:
    """The signature of an entry's function, which has been checked before."""
    return signature(kind, kind, entry["function"])


def is_random(purifier_point: Mapping[str, Any]) -> bool:
    """Whether a point of a purifier draws random numbers."""
    return "noise" in signature_of("purifiers", purifier_point).injected


def module_file(kind: str, entry: Mapping[str, Any]) -> Path:
    """The source file that holds an entry's function."""
    return locate(kind, kind, entry["function"]).file


def without_first_weights(kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry without the weights that a training starts from, which may have to be fetched.

    A function that needs such a setting gets it, for it cannot be called without.
    """
    settings = entry.get("settings", {})
    left_out = {*settings} & {*_FIRST_WEIGHTS}
    if left_out:
        left_out -= {*signature_of(kind, entry).required}
    kept = {name: value for name, value in settings.items() if name not in left_out}
    return {**entry, "settings": kept}


def named_files(kind: str, entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """The files that an entry's settings name, by setting, relative to the working directory.

    Any text is one, or any of a list, that is the path of a file, also where it is a setting's
    default. What `weights` of a network says is one that has to be there, unless it is a word alone
    (`imagenet`), which may stand for weights that a library fetches.
    """
    files = {}
    for name, value in (signature_of(kind, entry).defaults | entry.get("settings", {})).items():
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


def check(kind: str, key: str, entry: Mapping[str, Any], engine: tuple[str, ...] = ()) -> Signature:
    """Refuse an unknown function, an unknown or missing setting or one out of its range.

    `key` is the entry's place in the configuration, `engine` the settings that its stage adds by
    itself (an attack's epsilon per image). Raises `BadInput`; returns the function's signature.
    """
    function, settings = entry["function"], entry.get("settings", {})
    component = signature(kind, key, function)
    if kind not in _BUILD and _is_class(kind, key, function):
        raise BadInput(
            f"{key}.function: {function} is a class, but {kind} are functions; write one that uses "
            "it"
        )
    for name in settings:
        if name not in component.settings and not component.open:
            raise BadInput(
                f"{key}.settings.{name}: {function} has no such setting; "
                f"{suggest(name, component.settings)}"
            )
        annotation = component.types.get(name, Any)
        if sentence := ranges.error_message(f"{key}.settings.{name}", settings[name], annotation):
            raise BadInput(sentence)
    for name in component.required:
        if name not in settings and name not in engine:
            handed = f"; {kind} are handed {', '.join(sorted(_injected(kind)))}"
            raise BadInput(
                f"{key}.settings: {function} needs the setting {name!r}; add it"
                f"{handed if is_own(function) else ''}"
            )
    return component


def _is_class(kind: str, key: str, function: str) -> bool:
    source = locate(kind, key, function)
    return isinstance(definitions(source.file)[source.name], ast.ClassDef)


@functools.cache
def _signature(kind: str, own: bool, file: Path, name: str) -> Signature:
    node = definitions(file)[name]
    if isinstance(node, ast.ClassDef):
        arguments = _constructor(file, node).args
        arguments = ast.arguments(
            **{f: getattr(arguments, f) for f in arguments._fields if f != "args"},
            args=arguments.args[0 if arguments.posonlyargs else 1 :],
        )
        returns = name
    else:
        arguments, returns = node.args, ast.unparse(node.returns) if node.returns else ""
    injected = _injected(kind) if own else None
    return _read(arguments, returns, injected)


def _injected(kind: str) -> set[str]:
    """What components of a kind can be handed by name."""
    if kind in ("tables", "figures"):
        return {*crossings(), "styles", "labels"}
    return INJECTED[kind]


def _function(text: str) -> ast.FunctionDef:
    (node,) = ast.parse(text).body
    assert isinstance(node, ast.FunctionDef)
    return node


def _constructor(file: Path, node: ast.ClassDef, depth: int = 8) -> ast.FunctionDef:
    """The `__init__` of a class, its own or that of a base; one without parameters by default.

    A base that cannot be read takes any settings: they are refused when the job builds it.
    """
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return inner
    base = ast.unparse(node.bases[0]) if node.bases else "object"
    if base.rpartition(".")[2] in ("Module", "object"):
        return _function("def __init__(self): ...")
    if depth and (source := definition(file, base)):
        inner = definitions(source.file)[source.name]
        if isinstance(inner, ast.ClassDef):
            return _constructor(source.file, inner, depth - 1)
    return _function("def __init__(self, **settings): ...")


def _read(arguments: ast.arguments, returns: str, injectable: set[str] | None) -> Signature:
    """A signature; of positional parameters those in `injectable` are injected, by None all."""
    positional = arguments.posonlyargs + arguments.args
    least = len(positional) - len(arguments.defaults)
    defaults = [None] * least + list(arguments.defaults)
    parameters = list(zip(positional, defaults, strict=True))
    injected = [(a, d) for a, d in parameters if injectable is None or a.arg in injectable]
    settings = [(a, d) for a, d in parameters if (a, d) not in injected]
    settings += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return Signature(
        injected=tuple(a.arg for a, _ in injected),
        required_injected=tuple(a.arg for a, default in injected if default is None),
        required=tuple(a.arg for a, default in settings if default is None),
        optional=tuple(a.arg for a, default in settings if default is not None),
        types={a.arg: _annotation(a.annotation) for a, _ in settings if a.annotation},
        defaults=_literals(settings),
        written={a.arg: ast.unparse(default) for a, default in settings if default is not None},
        returns=returns,
        open=arguments.kwarg is not None,
    )


class _Names(dict[str, Any]):
    """What an annotation may be written with; any other name stands for itself."""

    def __missing__(self, name: str) -> type:
        return ranges.Unchecked


_NAMES = _Names(
    {name: value for name, value in vars(ranges).items() if not name.startswith("_")}
    | {"int": int, "float": float, "bool": bool, "str": str}
    | {"list": list, "tuple": tuple, "dict": dict}
)


def _annotation(node: ast.expr) -> Any:
    """The annotation of a setting: plain types, ranges and `ranges.Unchecked` for all else."""
    code = compile(ast.Expression(node), "annotation", "eval")
    try:
        return eval(code, {"__builtins__": {}}, _NAMES)
    except Exception:  # written with what only its module knows
        return Any


def _literals(settings: list[tuple[ast.arg, ast.expr | None]]) -> dict[str, Any]:
    """The defaults of settings, as far as they are written as plain values."""
    defaults = {}
    for argument, default in settings:
        with contextlib.suppress(ValueError):
            if default is not None:
                defaults[argument.arg] = ast.literal_eval(default)
    return defaults
