"""The configuration, checked, and the graph that rules ask for inputs, settings and code."""

from pathlib import Path

from snakemake.exceptions import WorkflowError

from scripts.advdenoise import configuration, running
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.workflow import Flow, prepare_environment

prepare_environment()
try:
    flow = Flow(configuration.read(config))
except BadInput as mistake:
    raise WorkflowError(str(mistake))


# A Path is the one type that Snakemake does not compare between runs: moving the data reruns nothing.
data_root = Path(flow.config["data_root"] or ".")


def as_options(wildcards, input):
    """A job's input files as command-line options, by their names."""
    return " ".join(
        f"--{name} {files if isinstance(files, str) else ' '.join(files)}"
        for name, files in input.items()
    )


def weights(path):
    """Trained weights as an output: protected where the configuration says so."""
    return protected(path) if flow.config["protect_weights"] else path


def papers(name):
    """The targets of one paper, asked for only when its rule is."""
    return lambda wildcards: flow.targets(name)


pathvars:
    results=flow.root,
    logs=f"logs/{flow.config['scale']}",
    benchmarks=f"benchmarks/{flow.config['scale']}",


wildcard_constraints:
    **flow.constraints(),


onstart:
    running.announce()
    try:
        flow.start(list(workflow.dag.needrun_jobs()))
    except BadInput as mistake:
        running.withdraw()
        raise WorkflowError(str(mistake))


onsuccess:
    running.withdraw()


onerror:
    running.withdraw()
