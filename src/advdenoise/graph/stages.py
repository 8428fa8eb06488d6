"""The stages: what each writes, what tables read of it, and how its jobs are declared.

A stage is a module of `declarations/` with `OUTPUTS`, the paths below `results/{scale}/` that its
rule writes, `FORMAT`, which is raised by hand when the stage means or writes something else, and
`job`, which gives the inputs, settings and components of a job by its wildcards. A stage whose
files tables read says in `PRODUCT` under which key tables name them. `MODULE` is the module of the
stages that runs it, where that has another name.
"""

import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from advdenoise.graph.sources import LIBRARY

if TYPE_CHECKING:
    from advdenoise.graph.jobs import Job

_WILDCARD = re.compile(r"\{(\w+)\}")
_OF_REPLICATES = ("seed", "dataset")


class Stage(NamedTuple):
    """One declaration."""

    name: str
    outputs: tuple[str, ...]
    product: str | None
    module: Path
    format: int
    job: Callable[..., "Job"]


@functools.cache
def stages() -> dict[str, Stage]:
    """All stages by name."""
    names = sorted(path.stem for path in Path(__file__).with_name("declarations").glob("[!_]*.py"))
    return {name: _stage(name) for name in names}


def _stage(name: str) -> Stage:
    declared = importlib.import_module(f"advdenoise.graph.declarations.{name}")
    return Stage(
        name,
        declared.OUTPUTS,
        getattr(declared, "PRODUCT", None),
        module_of(getattr(declared, "MODULE", name)),
        declared.FORMAT,
        declared.job,
    )


def module_of(name: str) -> Path:
    """The file of a module of the stages."""
    return LIBRARY / "stages" / f"{name}.py"


@functools.cache
def crossings() -> dict[str, tuple[str, ...]]:
    """What the files that tables read are named by, beside seed and data set, by product."""
    wildcards = {s.product: _WILDCARD.findall(s.outputs[0]) for s in stages().values() if s.product}
    return {
        product: tuple(name for name in names if name not in _OF_REPLICATES)
        for product, names in wildcards.items()
    }


@functools.cache
def product_path(product: str) -> str:
    """The path below `results/{scale}/` of a file that tables read, with its wildcards."""
    return next(stage.outputs[0] for stage in stages().values() if stage.product == product)


def rule_of(place: str) -> tuple[str, dict[str, str]] | None:
    """The rule of a file, given from below `results/{scale}/`, and its wildcards.

    None of a file that no rule writes. Names are not looked up in a configuration.
    """
    for rule, pattern in _patterns().get(place.count("/"), []):
        match = pattern.fullmatch(place)
        if match:
            return rule, match.groupdict()
    return None


@functools.cache
def _patterns() -> dict[int, list[tuple[str, re.Pattern[str]]]]:
    """Rules and patterns by the depth of their files."""
    patterns: dict[int, list[tuple[str, re.Pattern[str]]]] = {}
    for stage in stages().values():
        for path in stage.outputs:
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
            patterns.setdefault(path.count("/"), []).append((stage.name, re.compile(pattern)))
    return patterns
