"""The figures stage: all figures of one experiment."""

from advdenoise.graph.jobs import Entries, Job

OUTPUTS = ("figures/{experiment}/{figure}.svg",)
FORMAT = 1


def job(entries: Entries, experiment: str, figure: str | None = None) -> Job:
    """The results that the figures' crossings name; one job draws them all."""
    figures = entries.config["experiments"][experiment]["figures"]
    inputs = {name: entries.product_inputs(experiment, entry)[0] for name, entry in figures.items()}
    files = sorted({path for one in inputs.values() for paths in one.values() for path in paths})
    numbers = {path: number for number, path in enumerate(files)}
    used = [("figures", entry) for entry in figures.values()]
    settings = {
        "experiment": experiment,
        "figures": {name: entries.without_crossings(entry) for name, entry in figures.items()},
        "inputs": {  # each file by its number among all: a module may have them in other folders
            name: {stage: [numbers[path] for path in paths] for stage, paths in one.items()}
            for name, one in inputs.items()
        },
        **entries.published(experiment, used),
    }
    labels, sources = entries.labels(experiment)
    return Job({"files": files}, settings | labels, used, sources=sources)
