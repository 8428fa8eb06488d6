"""The train_classifier stage: one trained classifier and its history."""

from advdenoise.graph.jobs import Entries, Job

OUTPUTS = (
    "seed{seed}/{dataset}/classifiers/{classifier}.safetensors",
    "seed{seed}/{dataset}/classifiers/{classifier}.history.parquet",
)
MODULE = "training"
FORMAT = 1


def job(entries: Entries, seed: str, dataset: str, classifier: str) -> Job:
    """A training on its data set, or on the one that `training: dataset` names.

    With `weights` it reads that file, for images like those of the test split.
    """
    entry = entries.of("classifiers", classifier)
    settings = {
        "seed": int(seed),
        "dataset": dataset,
        "classifier": entries.named("classifiers", classifier),
    }
    if "weights" in entry:
        return entries.weights_job("classifiers", dataset, entry, settings)
    used = [("classifiers", entry), ("training", entry["training"])]
    inputs = entries.training_images(entry["training"].get("dataset", dataset), entry)
    if "dataset" in entry["training"]:
        inputs["classes"] = entries.images(dataset, "test")
    if start := entry["training"].get("start"):
        inputs["start"] = entries.classifier(seed, dataset, start)
        settings["start"] = entries.named("classifiers", start)
    return Job(inputs, settings, used)
