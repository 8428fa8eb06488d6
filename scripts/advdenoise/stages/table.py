"""The table stage: result files in, one table in three formats out. No torch."""

from collections.abc import Callable
from pathlib import Path

from scripts.advdenoise.components import load, needed, provide
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.tables import _claims, _failures, _write
from scripts.advdenoise.tables._read import read_stage
from scripts.advdenoise.tables._title import title


def run(
    settings: dict,
    csv: Path,
    markdown: Path,
    latex: Path,
    predictions: list[Path] | None = None,
    distances: list[Path] | None = None,
    iqr: list[Path] | None = None,
    detection: list[Path] | None = None,
    calibration: list[Path] | None = None,
    cost: list[Path] | None = None,
    examples: list[Path] | None = None,
    chosen: list[Path] | None = None,
) -> None:
    """Aggregate result files into one table."""
    given = {
        "predictions": predictions,
        "distances": distances,
        "iqr": iqr,
        "detection": detection,
        "calibration": calibration,
        "cost": cost,
        "examples": examples,
        "chosen": chosen,
    }
    function, read = prepared(settings, given)
    cells = provide(function, **read)
    write = _claims.write if isinstance(cells, _claims.Claims) else _write.write
    paths = {"csv": csv, "markdown": markdown, "latex": latex}
    paper, table = settings["paper"], settings["table"]
    above = title(paper, table, function, read, cells)
    warnings = _failures.warnings(read["predictions"]) if "predictions" in read else []
    write(cells, paper, table, settings["left_out"], paths, above, warnings)


def prepared(settings: dict, inputs: dict[str, list[Path] | None]) -> tuple[Callable, dict]:
    """A table's function, and what it reads by stage."""
    function = load("tables", settings["entry"])
    key = f"experiments.{settings['paper']}.tables.{settings['table']}"
    for name in needed(function):
        if not inputs[name]:
            raise BadInput(
                f"{key}: {settings['entry']['function']} reads {name}, but the crossing gives "
                f"none; add {name} that fit"
            )
    return function, {name: read_stage(name, files) for name, files in inputs.items() if files}
