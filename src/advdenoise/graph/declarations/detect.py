"""The detect stage: scores of one detector entry on the features of a suite."""

from advdenoise.errors import BadInput
from advdenoise.graph.combinations import suite_threats
from advdenoise.graph.jobs import Entries, Inputs, Job
from advdenoise.graph.threats import CLEAN, NO_PURIFIER

OUTPUTS = (
    "seed{seed}/{dataset}/detection/{suite}/{detector}/{attribution}/{classifier}/{split}.parquet",
)
PRODUCT = "detection"
FORMAT = 1


def job(
    entries: Entries,
    seed: str,
    dataset: str,
    suite: str,
    detector: str,
    attribution: str,
    classifier: str,
    split: str,
) -> Job:
    """A detector on the interquartile ranges of clean and adversarial images."""
    config = entries.config
    if "detection" not in config:
        raise BadInput("detection: the key is missing; say how detectors are judged")
    threats = suite_threats(config, suite, dataset, classifier, NO_PURIFIER)
    attacked = [threat for threat in threats if not threat.is_clean]
    place = {"attribution": attribution, "classifier": classifier, "split": split}
    inputs: Inputs = {
        "features": [
            entries.product("iqr", seed, dataset, threat=str(threat), **place)
            for threat in (CLEAN, *attacked)
        ]
    }
    inputs |= entries.chosen(seed, dataset, entries.attacks_with_victims(attacked))
    settings = entries.common(seed, dataset) | {
        "split": split,
        "suite": suite,
        "threats": [str(threat) for threat in attacked],
        "attacks": entries.attacks(attacked),
        "detector": entries.named("detectors", detector),
        "attribution": entries.named("attributions", attribution),
        "classifier": entries.named("classifiers", classifier),
        "detection": config["detection"],
        "has_hidden": classifier in config["hidden"]["taps"],
    }
    points = entries.of("detectors", detector)["points"]
    return Job(inputs, settings, [("detectors", point) for point in points.values()])
