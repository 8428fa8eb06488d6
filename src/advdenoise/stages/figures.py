"""The figures stage: all figures of one experiment in one job. No torch."""

from pathlib import Path

from advdenoise.calls import call_with
from advdenoise.graph.sources import load
from advdenoise.io.files import atomic_write
from advdenoise.reporting.labels import labels_of
from advdenoise.reporting.palette import Styles
from advdenoise.reporting.read import read_stage


def run(settings: dict, output: list[Path], files: list[Path]) -> None:
    """Draw every figure of an experiment as SVG, each into the file of `output` with its name.

    The settings name the inputs of a figure by their places in `files`. The order of `output` means
    nothing: that of the settings is lost where they are sorted.
    """
    import matplotlib

    # Equal inputs give equal files, and text stays text.
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "advdenoise", "svg.fonttype": "none"})
    paths = {path.stem: path for path in output}
    if len(paths) != len(output) or paths.keys() != settings["figures"].keys():
        raise RuntimeError(f"output: must be a file for each of {sorted(settings['figures'])}")
    labels = labels_of(settings)
    styles = Styles(labels.sets.values())
    for name, entry in settings["figures"].items():
        results = {
            stage: read_stage(stage, [files[number] for number in numbers])
            for stage, numbers in settings["inputs"][name].items()
        }
        figure = call_with(load("figures", entry), styles=styles, labels=labels, **results)
        about = {"Title": f"{settings['experiment']}: {name}", "Date": None}
        with atomic_write(paths[name]) as part:
            figure.savefig(part, format="svg", metadata=about, bbox_inches="tight")
        matplotlib.pyplot.close(figure)  # type: ignore[attr-defined]
