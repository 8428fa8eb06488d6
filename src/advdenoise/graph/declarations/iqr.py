"""The iqr stage: interquartile ranges of leave-one-out attributions."""

from advdenoise.graph import threats
from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/iqr/{threat}/{attribution}/{classifier}/{split}.parquet",)
PRODUCT = "iqr"
FORMAT = 1


def job(
    entries: Entries,
    seed: str,
    dataset: str,
    threat: str,
    attribution: str,
    classifier: str,
    split: str,
) -> Job:
    """A classifier's attributions on the images of one threat."""
    parsed = threats.parse(threat)
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "classifier": entries.classifier(seed, dataset, classifier),
    }
    if not parsed.is_clean:
        inputs["adversarial"] = entries.adversarial(seed, dataset, parsed, split)
    inputs |= entries.chosen(seed, dataset, entries.attacks_with_victims([parsed]))
    settings = entries.common(seed, dataset) | {
        "split": split,
        "threat": threat,
        "attacks": entries.attacks([parsed]),
        "attribution": entries.named("attributions", attribution),
        "classifier": entries.named("classifiers", classifier),
    }
    settings |= entries.hidden(classifier)
    used = [("classifiers", entries.of("classifiers", classifier))]
    points = entries.of("attributions", attribution)["points"]
    return Job(inputs, settings, used + [("attributions", point) for point in points.values()])
