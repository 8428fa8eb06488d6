"""Sources of modules, located and read without importing them."""

import ast
import functools
import importlib.util
import os
from pathlib import Path

from advdenoise.errors import BadInput

SOURCES = Path(__file__).resolve().parents[2]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source; BadInput where it is no Python."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as Python ({error}); correct it") from error


def roots() -> tuple[Path, ...]:
    """Where a job looks for modules before the installed ones, in its order."""
    listed = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return tuple(dict.fromkeys([SOURCES, *(Path(p).resolve() for p in listed), Path.cwd()]))


@functools.cache
def root_of(top: str, searched: tuple[Path, ...]) -> Path | None:
    """The folder from which a package or module is imported; None of an installed one.

    A package that is installed from a folder, to be edited, has one.
    """
    for root in searched:
        if (root / top / "__init__.py").is_file() or (root / f"{top}.py").is_file():
            return root
    place = _installed(top)
    if place and not is_installed(place):
        return place
    if place is None:  # A folder without __init__.py is a package as well.
        return next((root for root in searched if (root / top).is_dir()), None)
    return None


def folder_of(top: str) -> Path | None:
    """The folder that holds a package or module, installed or not; None where there is none."""
    return root_of(top, roots()) or _installed(top)


@functools.cache
def _installed(top: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # Of a finder, or of a module without a specification.
        return None
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parents[0 if spec.submodule_search_locations is None else 1]


def is_installed(path: Path) -> bool:
    """Whether a path lies in an environment's packages."""
    return bool({"site-packages", "dist-packages"} & {*path.parts})
