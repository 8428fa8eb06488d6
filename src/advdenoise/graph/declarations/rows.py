"""The rows stage: result files of the same images joined into one, for programs."""

from advdenoise.graph.jobs import Entries, Job

OUTPUTS = ("tables/{experiment}/{rows}.parquet",)
FORMAT = 1


def job(entries: Entries, experiment: str, rows: str) -> Job:
    """The results that a table's crossings name."""
    entry = entries.table(experiment, rows)
    inputs, left_out = entries.product_inputs(experiment, entry)
    settings = {
        "experiment": experiment,
        "table": rows,
        "entry": entries.without_crossings(entry),
        "left_out": left_out,
    }
    return Job(inputs, settings, [("tables", entry)])
