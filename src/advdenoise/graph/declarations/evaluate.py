"""The evaluate stage: predictions for all threats of a suite behind one purifier."""

from advdenoise.graph.combinations import suite_threats
from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/predictions/{suite}/{purifier}/{classifier}/{split}.parquet",)
PRODUCT = "predictions"
FORMAT = 2


def job(
    entries: Entries,
    seed: str,
    dataset: str,
    suite: str,
    purifier: str,
    classifier: str,
    split: str,
) -> Job:
    """A classifier behind a purifier on the adversarial sets of a suite."""
    threats = suite_threats(entries.config, suite, dataset, classifier, purifier)
    entry, denoiser = entries.purifier(purifier)
    attacked = [threat for threat in threats if not threat.is_clean]
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "classifier": entries.classifier(seed, dataset, classifier),
        "adversarial": entries.adversarial_sets(seed, dataset, attacked, split),
    }
    inputs |= entries.purifier_inputs(seed, dataset, entry)
    choosing = [*entries.attacks_with_victims(attacked), (entry, classifier)]
    inputs |= entries.chosen(seed, dataset, choosing)
    settings = entries.common(seed, dataset) | {
        "split": split,
        "suite": suite,
        "threats": [str(threat) for threat in threats],
        "attacks": entries.attacks(attacked),
        "purifier": entry,
        "denoiser": denoiser,
        "classifier": entries.named("classifiers", classifier),
    }
    # For tables, which say what the denoiser was trained with.
    if denoiser and (network := denoiser.get("training", {}).get("network")):
        settings["network"] = entries.named("classifiers", network)
    if denoiser and (noises := entries.noises(denoiser)):
        settings["noises"] = noises
    used = [("classifiers", entries.of("classifiers", classifier))]
    return Job(inputs, settings, used + entries.purifier_components(entry, denoiser))
