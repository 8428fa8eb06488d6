"""The export stage: an image set as plain arrays for people outside this project."""

from advdenoise.graph import threats
from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/exported/{threat}/{split}.h5",)
FORMAT = 1


def job(entries: Entries, seed: str, dataset: str, threat: str, split: str) -> Job:
    """The images of one threat."""
    parsed = threats.parse(threat)
    inputs: Inputs = {"images": entries.images(dataset, split)}
    if not parsed.is_clean:
        inputs["adversarial"] = entries.adversarial(seed, dataset, parsed, split)
    inputs |= entries.chosen(seed, dataset, entries.attacks_with_victims([parsed]))
    settings = {
        "seed": int(seed),
        "dataset": dataset,
        "split": split,
        "threat": threat,
        "attacks": entries.attacks([parsed]),
    }
    return Job(inputs, settings, [])
