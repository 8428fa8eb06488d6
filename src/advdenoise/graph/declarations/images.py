"""The images stage: one split of a data set."""

from advdenoise.graph.jobs import Entries, Job

OUTPUTS = ("images/{dataset}/{split}.h5",)
FORMAT = 1


def job(entries: Entries, dataset: str, split: str) -> Job:
    """What one split is made with; the images themselves lie in the data root."""
    entry = entries.of("datasets", dataset)
    settings = {
        "dataset": dataset,
        "split": split,
        "entry": {
            "function": entry["function"],
            "settings": entry.get("settings", {}),
            "splits": entries.split_chain(dataset, split),
        },
    }
    return Job({}, settings, [("datasets", entry)])
