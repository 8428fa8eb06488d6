"""Digests of sources and files: what a job has to be run again for."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from advdenoise.errors import BadInput

REPOSITORY = Path(__file__).parents[3]
# Packages of the pinned environment that this project imports. Another version of them reruns
# nothing, for then everything would run again: every file says which ones made it.
PINNED = {
    *("PIL", "h5py", "hdf5plugin", "jsonschema", "matplotlib", "numpy", "pandas", "pyarrow"),
    *("safetensors", "scipy", "segmentation_models_pytorch", "skimage", "sklearn", "snakemake"),
    *("snakemake_executor_plugin_slurm", "tabulate", "timm", "torch", "torchvision", "tqdm"),
    *("xgboost", "yaml"),
}


@functools.cache
def code_digest(*files: Path) -> str:
    """A digest of the given sources and of all that they import, but for the pinned environment.

    Over the syntax tree without docstrings, so that a comment or a docstring changes nothing.
    Sources are followed below the working directory, the folders of PYTHONPATH and the repository,
    and to packages that are installed from a folder to be edited; of other installed packages name
    and version count.
    """
    roots = _roots()
    closure: dict[str, Path] = {}  # the folder that a source lies below, by its path from there
    packages: set[str] = set()
    waiting = [(str(path.relative_to(REPOSITORY)), REPOSITORY) for path in files]
    while waiting:
        source, root = waiting.pop()
        if source not in closure:
            closure[source] = root
            sources, installed = _imports(source, root, roots)
            waiting += sources
            packages |= installed
    digest = hashlib.sha256()
    for source, root in sorted(closure.items()):
        digest.update(source.encode() + b"\0")
        digest.update(_syntax(root / source).encode() + b"\0")
    for package in sorted(packages):
        digest.update(_version(package).encode() + b"\0")
    return digest.hexdigest()[:16]


def _roots() -> tuple[Path, ...]:
    """Where a job looks for modules before the installed ones, in its order."""
    listed = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return tuple(dict.fromkeys([Path.cwd(), *map(Path, listed), REPOSITORY]))


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source; BadInput where it is no Python."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError, OSError) as error:
        raise BadInput(f"{path} cannot be read as Python ({error}); mend it") from error


@functools.cache
def _syntax(path: Path) -> str:
    """The syntax tree as text, docstrings and places left out."""
    tree = parsed(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


@functools.cache
def _imports(
    source: str, root: Path, roots: tuple[Path, ...]
) -> tuple[list[tuple[str, Path]], frozenset[str]]:
    """What a source imports, anywhere in it: sources with their roots, and installed packages."""
    sources, installed = [], set()
    for name, level in _names(root / source):
        top = name.partition(".")[0]
        if level:
            folder = source.split("/")[:-level]
            sources += _sources(root, ".".join([*folder, name]))
        elif top in sys.stdlib_module_names:
            continue
        elif found := _root_of(top, roots):
            sources += _sources(found, name)
        elif top not in PINNED:
            installed.add(top)
    return sources, frozenset(installed)


def _names(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a source names, with what it takes from them: that may be one as well.

    And how many folders up a relative import begins, 0 of an absolute one.
    """
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = [node.module] if node.module else []
            if module:
                yield node.module, node.level
            for alias in node.names:
                yield ".".join([*module, alias.name]), node.level
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, 0


def _sources(root: Path, name: str) -> list[tuple[str, Path]]:
    """The files that an import of a module below `root` runs: its own and its packages'."""
    parts = name.split(".")
    files = ["/".join([*parts[:count], "__init__.py"]) for count in range(1, len(parts) + 1)]
    files.append("/".join(parts) + ".py")
    return [(f, root) for f in files if (root / f).is_file() and not _is_empty(root / f)]


def _is_empty(path: Path) -> bool:
    """Whether a source does nothing, as most `__init__.py` do."""
    idle = (ast.Pass, ast.Expr)
    return all(isinstance(node, idle) for node in parsed(path).body) and not any(
        isinstance(node, ast.Call) for node in ast.walk(parsed(path))
    )


@functools.cache
def _root_of(top: str, roots: tuple[Path, ...]) -> Path | None:
    """The folder from which a package or module is taken; None of an installed one."""
    for root in roots:
        if (root / top / "__init__.py").is_file() or (root / f"{top}.py").is_file():
            return root
    if top in PINNED:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # Of a finder, or of a module without a specification.
        return None
    if spec and spec.origin:
        place = Path(spec.origin)
        package = spec.submodule_search_locations is not None
        return None if _is_installed(place) else place.parents[1 if package else 0]
    return next((root for root in roots if (root / top).is_dir()), None)  # without __init__.py


def _is_installed(path: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & {*path.parts})


@functools.cache
def _version(package: str) -> str:
    """Name and version of an installed package, as its distributions have it."""
    distributions = importlib.metadata.packages_distributions().get(package, [])
    versions = [f"{name} {importlib.metadata.version(name)}" for name in sorted({*distributions})]
    return " ".join([package, *versions])
