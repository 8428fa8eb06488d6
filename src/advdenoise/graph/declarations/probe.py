"""The probe stage: what a classifier behind a purifier does on a few images, for flags."""

from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/probes/{purifier}/{classifier}/{split}.json",)
PRODUCT = "probe"
FORMAT = 1


def job(
    entries: Entries, seed: str, dataset: str, purifier: str, classifier: str, split: str
) -> Job:
    """A classifier, and the denoiser of the purifier before it."""
    entry, denoiser = entries.purifier(purifier)
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "classifier": entries.classifier(seed, dataset, classifier),
    }
    inputs |= entries.purifier_inputs(seed, dataset, entry)
    inputs |= entries.chosen(seed, dataset, [(entry, classifier)])
    settings = entries.common(seed, dataset) | {
        "split": split,
        "purifier": entry,
        "denoiser": denoiser,
        "classifier": entries.named("classifiers", classifier),
    }
    used = [("classifiers", entries.of("classifiers", classifier))]
    return Job(inputs, settings, used + entries.purifier_components(entry, denoiser))
