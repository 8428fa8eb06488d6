"""The table stage: result files in, one table in three formats out. No torch."""

from pathlib import Path

from scripts.advdenoise.components import load, needed, provide
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.tables import _claims, _write
from scripts.advdenoise.tables._read import read_stage


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
    limits: list[Path] | None = None,
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
        "limits": limits,
    }
    made = made_of(settings, given)
    write = _claims.write if isinstance(made, _claims.Claims) else _write.write
    paths = {"csv": csv, "markdown": markdown, "latex": latex}
    write(made, settings["paper"], settings["table"], settings["left_out"], paths)


def made_of(settings: dict, given: dict[str, list[Path] | None]):
    """What a table's function makes of the files that it reads."""
    function = load("tables", settings["entry"])
    key = f"experiments.{settings['paper']}.tables.{settings['table']}"
    for name in needed(function):
        if not given[name]:
            raise BadInput(
                f"{key}: {settings['entry']['function']} reads {name}, but the crossing gives "
                f"none; add {name} that fit"
            )
    read = {name: read_stage(name, files) for name, files in given.items() if files}
    return provide(function, **read)
