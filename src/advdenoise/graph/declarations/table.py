"""The table stage: one table of an experiment, in three formats."""

from advdenoise.graph.jobs import Entries, Job

OUTPUTS = tuple(f"tables/{{experiment}}/{{table}}.{suffix}" for suffix in ("csv", "md", "tex"))
FORMAT = 1


def job(entries: Entries, experiment: str, table: str) -> Job:
    """The results that a table's crossings name."""
    entry = entries.table(experiment, table)
    inputs, left_out = entries.product_inputs(experiment, entry)
    used = [("tables", entry)]
    settings = {
        "experiment": experiment,
        "table": table,
        "entry": entries.without_crossings(entry),
        "left_out": left_out,
        **entries.published(experiment, used, table),
    }
    labels, sources = entries.labels(experiment)
    return Job(inputs, settings | labels, used, sources=sources)
