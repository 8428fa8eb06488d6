"""Where an entry's function is defined, and how it is imported.

`module.name` is a function of the library, in the folder of its kind (`attacks/`, `purifiers/`).
`package.module:name` is any importable function or class, `file.py:name` one in a file. Files named
in YAML are relative to it; they reach here relative to the working directory or to the repository.
"""

import ast
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.packages import folder_of, parsed
from advdenoise.io.digests import sha256

LIBRARY = Path(__file__).resolve().parents[1]
REPOSITORY = LIBRARY.parents[1]
# Names that one module takes from another are followed so far.
_DEEPEST = 8


class Source(NamedTuple):
    """The file that defines a component, and the component's name in it."""

    file: Path
    name: str


def is_own(function: str) -> bool:
    """Whether `function` is not one of the library."""
    return ":" in function


def file_of(function: str) -> Path | None:
    """The file of `file.py:name`; None for the other forms."""
    text, _, name = function.rpartition(":")
    if not name or not text.endswith(".py"):
        return None
    return existing(text)


def place(text: str, folder: Path) -> str:
    """A path named in a file of `folder`, relative to the repository or to the working directory.

    So that moving either of them changes no settings of a job.
    """
    path = folder / os.path.expanduser(text)
    full = path.resolve()
    if full.is_relative_to(REPOSITORY):
        inside = full.relative_to(REPOSITORY).as_posix()
        if existing(inside).resolve() == full:  # the working directory has no other of that name
            return inside
    return os.path.relpath(full)


def existing(text: str) -> Path:
    """A path as `place` gives it, from the working directory."""
    path = Path(os.path.expanduser(text))
    return REPOSITORY / path if not path.exists() and (REPOSITORY / path).exists() else path


@functools.cache
def locate(kind: str, key: str, function: str) -> Source:
    """The source of a function or class; BadInput naming `key` where there is none."""
    if not is_own(function):
        return _in_library(kind, key, function)
    place, _, name = function.rpartition(":")
    file = file_of(function)
    if file is None:
        file = _module_file(place)
        if file is None:
            raise BadInput(
                f"{key}.function: there is no Python source of a module {place!r}; install its "
                "package, add its folder to PYTHONPATH, or write file.py:name"
            )
    elif not file.is_file():
        raise BadInput(f"{key}.function: there is no file {file}; correct the path")
    source = definition(file, name)
    if source is None:
        raise BadInput(
            f"{key}.function: {place} defines no function or class {name!r}{_hint(name, file)}"
        )
    return source


def locate_object(key: str, text: str) -> Path:
    """The source of the module in `file.py:name` or `package.module:name`.

    Raises BadInput naming `key` where there is no such module, or nothing of that name in it.
    """
    place, _, name = text.rpartition(":")
    file = file_of(text) or _module_file(place)
    if file is None or not file.is_file():
        raise BadInput(f"{key}: there is no file {place}; correct the path")
    names = _names(file)
    if name not in names:
        raise BadInput(f"{key}: {place} defines no {name!r}; {suggest(name, names)}")
    return file


def _in_library(kind: str, key: str, function: str) -> Source:
    module, _, name = function.partition(".")
    if function not in functions(kind):
        raise BadInput(
            f"{key}.function: {function!r} is not a function of {package(kind)}/; "
            f"{suggest(function, functions(kind))}"
        )
    return Source(folder(kind) / f"{module}.py", name)


def package(kind: str) -> str:
    """Where the components of a kind are, below the library."""
    return f"reporting.{kind}" if kind in ("tables", "figures") else kind


def folder(kind: str) -> Path:
    return LIBRARY.joinpath(*package(kind).split("."))


@functools.cache
def modules(kind: str) -> tuple[str, ...]:
    """The public modules of a kind in the library."""
    return tuple(sorted(p.stem for p in folder(kind).glob("*.py") if not p.stem.startswith("_")))


@functools.cache
def functions(kind: str) -> tuple[str, ...]:
    """Every component of a kind in the library as `module.function`."""
    return tuple(
        f"{module}.{node.name}"
        for module in modules(kind)
        for node in parsed(folder(kind) / f"{module}.py").body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    )


def definitions(file: Path) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """The functions and classes at the top of a file, in any branch of `if` or `try`."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {n.name: n for n in _statements(parsed(file).body) if isinstance(n, kinds)}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        for part in ("body", "handlers", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
                yield from _statements(getattr(node, part, []))


def _names(file: Path) -> set[str]:
    """The names that the top of a file defines, assigns or imports."""
    names = {*definitions(file)}
    for node in _statements(parsed(file).body):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def definition(file: Path, name: str, depth: int = _DEEPEST) -> Source | None:
    """Where a name of a module is defined, also if the module takes it from another.

    None where it is not a function or class, or is imported from what has no Python source.
    """
    if name in definitions(file):
        return Source(file, name)
    for node in _statements(parsed(file).body) if depth else ():
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            if alias.name == "*" or (alias.asname or alias.name) == name:
                original = name if alias.name == "*" else alias.name
                other = imported_file(file, node)
                if source := definition(other, original, depth - 1) if other else None:
                    return source
    return None


def _hint(name: str, file: Path) -> str:
    """The end of the sentence on a name that a module does not define."""
    for node in _statements(parsed(file).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return f" but a variable; write a function {name}() that returns what it calls"
    imports = [n for n in _statements(parsed(file).body) if isinstance(n, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    names = {n for n in {*definitions(file), *imported} - {"*"} if not n.startswith("_")}
    return f"; {suggest(name, names)}" if names else "; correct the name"


def imported_file(file: Path, node: ast.ImportFrom) -> Path | None:
    """The source that an import in a file takes names from."""
    if not node.level:
        return _beside(file.parent, node.module or "") or _module_file(node.module or "")
    start = file.parent
    for _ in range(node.level - 1):
        start = start.parent
    return _beside(start, node.module or "")


def _module_file(module: str) -> Path | None:
    """The source of an importable module, located without importing it."""
    top, _, rest = module.partition(".")
    start = folder_of(top)
    if start is None or not all(part.isidentifier() for part in module.split(".")):
        return None
    return _beside(start, module)


def _beside(start: Path, module: str) -> Path | None:
    place = start.joinpath(*filter(None, module.split(".")))
    files = (place.with_suffix(".py") if module else place / "__init__.py", place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def load(kind: str, entry: Mapping[str, Any]) -> functools.partial[Any]:
    """The entry's function or class with its settings bound. The only dynamic import here.

    `function` may be the function itself, as in a notebook.
    """
    function = entry["function"]
    if not callable(function):
        if is_own(function):
            function = imported_object(function)
        else:
            module, _, name = function.partition(".")
            function = getattr(imported(kind, module), name)
    return functools.partial(function, **entry.get("settings", {}))


def imported_object(text: str) -> object:
    """What `file.py:name` or `package.module:name` is."""
    place, _, name = text.rpartition(":")
    file = file_of(text)
    return getattr(_import_file(file) if file else _import_module(place), name)


def imported(kind: str, module: str) -> ModuleType:
    """A module of the library that holds components of a kind."""
    return importlib.import_module(f"advdenoise.{package(kind)}.{module}")


def _import_module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(file: Path) -> ModuleType:
    """A module whose folder is a package of its own: `from .other import name` works in it.

    Its folder is searched too, so that `import other` works as in a script.
    """
    place = file.resolve().parent
    name = f"{place.name}_{sha256(str(place))[:8]}"
    if name not in sys.modules:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(place)]
        sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(place) not in sys.path:
        sys.path.append(str(place))
    return importlib.import_module(f"{name}.{file.stem}")
