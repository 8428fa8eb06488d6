"""The distances stage: layer-wise distances of a suite's images from the clean ones."""

from advdenoise.graph import threats
from advdenoise.graph.combinations import suite_purifiers, suite_threats
from advdenoise.graph.jobs import Entries, Inputs, Job
from advdenoise.graph.threats import NO_PURIFIER

OUTPUTS = ("seed{seed}/{dataset}/distances/{suite}/{classifier}/{split}.parquet",)
PRODUCT = "distances"
FORMAT = 1


def job(entries: Entries, seed: str, dataset: str, suite: str, classifier: str, split: str) -> Job:
    """A classifier's observed layers on the adversarial and the purified images of a suite."""
    config = entries.config
    names = list(dict.fromkeys([NO_PURIFIER, *suite_purifiers(config, suite, dataset)]))
    pairs = [
        [str(threat), name]  # a list, as it is read back from a file's provenance
        for name in names
        for threat in suite_threats(config, suite, dataset, classifier, name)
    ]
    attacked = [threats.parse(text) for text in dict.fromkeys(text for text, _ in pairs)]
    attacked = [threat for threat in attacked if not threat.is_clean]
    purifiers = [entries.purifier(name) for name in names]
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "classifier": entries.classifier(seed, dataset, classifier),
        "adversarial": entries.adversarial_sets(seed, dataset, attacked, split),
    }
    of_purifiers = [entries.purifier_inputs(seed, dataset, entry) for entry, _ in purifiers]
    for role in ("denoiser", "calibration"):
        inputs[role] = list(dict.fromkeys(str(one[role]) for one in of_purifiers if role in one))
    choosing = entries.attacks_with_victims(attacked)
    choosing += [(entry, classifier) for entry, _ in purifiers]
    inputs |= entries.chosen(seed, dataset, choosing)
    settings = entries.common(seed, dataset) | {
        "split": split,
        "suite": suite,
        "pairs": pairs,
        "threats": [str(threat) for threat in attacked],
        "attacks": entries.attacks(attacked),
        "purifiers": [{**entry, "denoiser_entry": denoiser} for entry, denoiser in purifiers],
        "classifier": entries.named("classifiers", classifier),
        "taps": entries.taps("distances", classifier),
        "post_relu": config["distances"].get("post_relu", True),
        "images": config["distances"]["images"],
    }
    used = [("classifiers", entries.of("classifiers", classifier))]
    for entry, denoiser in purifiers:
        used += entries.purifier_components(entry, denoiser)
    return Job(inputs, settings, used)
