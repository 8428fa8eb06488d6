"""The cost stage: time and memory of leave-one-out attributions for one batch of images."""

from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/cost/{attribution}/{classifier}/{split}.parquet",)
PRODUCT = "cost"
FORMAT = 1


def job(
    entries: Entries, seed: str, dataset: str, attribution: str, classifier: str, split: str
) -> Job:
    """A classifier's attributions on clean images, timed."""
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "classifier": entries.classifier(seed, dataset, classifier),
    }
    settings = entries.common(seed, dataset) | {
        "split": split,
        "attribution": entries.named("attributions", attribution),
        "classifier": entries.named("classifiers", classifier),
        **entries.hidden(classifier),
        **entries.config["cost"],
    }
    used = [("classifiers", entries.of("classifiers", classifier))]
    points = entries.of("attributions", attribution)["points"]
    return Job(inputs, settings, used + [("attributions", point) for point in points.values()])
