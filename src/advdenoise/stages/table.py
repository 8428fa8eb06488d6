"""The table stage: result files in, one table in three formats out. No torch."""

from collections.abc import Callable
from pathlib import Path

from advdenoise.calls import call_with, required_parameters
from advdenoise.errors import BadInput
from advdenoise.graph.sources import existing, load
from advdenoise.io.published import Published
from advdenoise.reporting import claims, failures, write
from advdenoise.reporting.labels import labels_of
from advdenoise.reporting.read import read_stage
from advdenoise.reporting.title import title


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
    probe: list[Path] | None = None,
) -> None:
    """Aggregate result files into one table."""
    files = {
        "predictions": predictions,
        "distances": distances,
        "iqr": iqr,
        "detection": detection,
        "calibration": calibration,
        "cost": cost,
        "examples": examples,
        "chosen": chosen,
        "probe": probe,
    }
    function, read = prepared(settings, files)
    labels = labels_of(settings)
    cells = call_with(function, labels=labels, **read)
    paths = {"csv": csv, "markdown": markdown, "latex": latex}
    experiment, table = settings["experiment"], settings["table"]
    above = title(experiment, table, function, read, cells, labels)
    warnings = failures.warnings(read["predictions"]) if "predictions" in read else []
    arguments = (cells, experiment, table, settings["left_out"], paths, above, warnings)
    if isinstance(cells, claims.Claims):
        claims.write(*arguments)
    else:
        write.write(*arguments, _published(settings))


def _published(settings: dict) -> dict[tuple[str, str], dict]:
    """The published numbers of a table by row and column; none where the experiment has none."""
    if "published" not in settings:
        return {}
    folder = existing(settings["published"]["folder"])
    return Published(folder).numbers(settings["table"])


def prepared(settings: dict, inputs: dict[str, list[Path] | None]) -> tuple[Callable, dict]:
    """A table's function, and what it reads by stage."""
    function = load("tables", settings["entry"])
    key = f"experiments.{settings['experiment']}.tables.{settings['table']}"
    for name in required_parameters(function):
        if not inputs[name]:
            raise BadInput(
                f"{key}: {settings['entry']['function']} reads {name}, but the crossing gives "
                f"none; add {name} that fit"
            )
    return function, {name: read_stage(name, files) for name, files in inputs.items() if files}
