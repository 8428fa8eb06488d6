"""Digests of code: what a job has to be run again for.

They cover the modules that decide numbers: the functions of a job's entries, what its stage imports
from the numerical rooms, and all that these import in turn. Reading and writing files, the graph,
the stages themselves, the writers of tables and the saved state of trainings are not covered, so
that a change there reruns nothing: a stage that means or writes something else has its `format`
raised by hand.
"""

import functools
import hashlib
import importlib.metadata
import sys
from pathlib import Path

from advdenoise.graph.packages import SOURCES, is_installed, root_of, roots
from advdenoise.graph.syntax import source_of

# Rooms and modules of the library whose text decides no number; what stages and the modules of
# `FOLLOWED` import does.
UNCOVERED = ("__main__", "api", "calls", "errors", "graph", "io", "ops", "ranges", "stages")
# Writers of tables, the saved state of trainings and the names of optimisers' settings.
FOLLOWED = {
    *("advdenoise/reporting/latex.py", "advdenoise/reporting/write.py"),
    *("advdenoise/training/_resume.py", "advdenoise/training/_settings.py"),
}
# Packages of the pinned environment that this project imports. Another version of them reruns
# nothing, for then everything would run again: every file says which ones made it.
PINNED = {
    *("PIL", "h5py", "hdf5plugin", "jsonschema", "matplotlib", "numpy", "pandas", "pyarrow"),
    *("safetensors", "scipy", "segmentation_models_pytorch", "skimage", "sklearn", "snakemake"),
    *("snakemake_executor_plugin_slurm", "tabulate", "timm", "torch", "torchvision", "tqdm"),
    *("xgboost", "yaml", "filelock", "psutil"),
}


@functools.cache
def code_digest(*files: Path) -> str:
    """A digest of the given sources and of all that they import, but for the pinned environment.

    Over the syntax tree without docstrings, so that a comment or a docstring changes nothing.
    Sources are followed below the given files' own folders, the folders of PYTHONPATH, the library
    and the working directory, and to packages that are installed from a folder to be edited; of
    other installed packages name and version count.
    """
    return _digest(*closure(files))


@functools.cache
def closure(files: tuple[Path, ...]) -> tuple[frozenset[tuple[str, Path]], frozenset[str]]:
    """The covered sources, as paths below a folder and that folder, and the installed packages."""
    searched, visited, packages = roots(), set(), set()
    waiting = []
    for file in files:
        if is_installed(file):
            packages.add(_top_package(file))
        else:
            waiting.append(_placed(file.resolve()))
    while waiting:
        source, root = waiting.pop()
        if (source, root) in visited:
            continue
        visited.add((source, root))
        if root == SOURCES and not _is_covered(source) and not _is_followed(source):
            continue
        sources, installed = _imports(source, root, searched)
        waiting += sources
        packages |= installed
    covered = {(s, root) for s, root in visited if root != SOURCES or _is_covered(s)}
    return frozenset(covered), frozenset(packages)


def _is_covered(source: str) -> bool:
    """Whether a source of the library decides numbers; a room's `__init__.py` names its modules."""
    _, *within = source.split("/")
    if len(within) <= 2 and within[-1] == "__init__.py":
        return False
    return within[0].removesuffix(".py") not in UNCOVERED and source not in FOLLOWED


def _is_followed(source: str) -> bool:
    return source.startswith("advdenoise/stages/") or source in FOLLOWED


def _placed(file: Path) -> tuple[str, Path]:
    """A file as a path below the library, or below the folder that holds its package."""
    if file.is_relative_to(SOURCES.resolve()):
        return file.relative_to(SOURCES.resolve()).as_posix(), SOURCES
    root = file.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return file.relative_to(root).as_posix(), root


def _top_package(file: Path) -> str:
    parts = file.parts
    place = max(i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages"))
    return parts[place + 1].removesuffix(".py")


def _digest(covered: frozenset[tuple[str, Path]], packages: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for source, root in sorted(covered):
        digest.update(source.encode() + b"\0")
        digest.update(source_of(root / source).digest.encode() + b"\0")
    for package in sorted(packages):
        digest.update(_version(package).encode() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def _imports(
    source: str, root: Path, searched: tuple[Path, ...]
) -> tuple[list[tuple[str, Path]], frozenset[str]]:
    """What a source imports, anywhere in it: sources with their roots, and installed packages."""
    sources, installed = [], set()
    # A file that an entry names may import those beside it, as a script does.
    beside = () if root == SOURCES else ((root / source).parent,)
    for name, level in source_of(root / source).imports:
        top = name.partition(".")[0]
        if level:
            folder = source.split("/")[:-level]
            sources += _sources(root, ".".join([*folder, name]))
        elif top in sys.stdlib_module_names:
            continue
        elif place := root_of(top, (*beside, root, *searched)):
            sources += _sources(place, name)
        elif top not in PINNED:
            installed.add(top)
    return sources, frozenset(installed)


@functools.cache
def _sources(root: Path, name: str) -> list[tuple[str, Path]]:
    """The files that an import of a module below `root` runs: its own and its packages'."""
    parts = name.split(".")
    files = ["/".join([*parts[:count], "__init__.py"]) for count in range(1, len(parts) + 1)]
    files.append("/".join(parts) + ".py")
    return [(f, root) for f in files if (root / f).is_file() and not source_of(root / f).is_empty]


@functools.cache
def _version(package: str) -> str:
    """Name and version of an installed package, as its distributions have it."""
    distributions = importlib.metadata.packages_distributions().get(package, [])
    versions = [f"{name} {importlib.metadata.version(name)}" for name in sorted({*distributions})]
    return " ".join([package, *versions])
