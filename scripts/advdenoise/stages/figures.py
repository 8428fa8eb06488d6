"""The figures stage: all figures of one experiment in one job. No torch."""

from pathlib import Path

from scripts.advdenoise import store
from scripts.advdenoise.components import load, provide
from scripts.advdenoise.tables._read import read_stage


def run(settings: dict, output: list[Path]) -> None:
    """Draw every figure of an experiment as SVG; `output` in the order of the configuration."""
    import matplotlib

    # Equal inputs give equal files, and text stays text.
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "advdenoise", "svg.fonttype": "none"})
    for (name, entry), path in zip(settings["figures"].items(), output, strict=True):
        offered = {
            stage: read_stage(stage, [Path(file) for file in files])
            for stage, files in settings["inputs"][name].items()
        }
        figure = provide(load("figures", entry), **offered)
        with store.replacing(path) as part:
            figure.savefig(part, format="svg", metadata={"Date": None}, bbox_inches="tight")
        matplotlib.pyplot.close(figure)
