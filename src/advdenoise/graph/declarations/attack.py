"""The attack stage: the perturbations of one attack on one victim."""

from advdenoise.graph import threats
from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/adversarial/{threat}/{split}.h5",)
FORMAT = 2


def job(entries: Entries, seed: str, dataset: str, threat: str, split: str) -> Job:
    """An attack on a victim, by a surrogate's gradient and through a purifier if it has them."""
    parsed = threats.parse(threat)
    entry = entries.of("attacks", parsed.attack)
    purifier, denoiser = entries.purifier(parsed.purifier) if parsed.purifier else (None, None)
    victim = parsed.victim or ""  # which every path names
    networks = {"victim": victim}
    if "surrogate" in entry:
        networks["surrogate"] = entry["surrogate"]
    inputs: Inputs = {"images": entries.images(dataset, split)}
    inputs |= {role: entries.classifier(seed, dataset, name) for role, name in networks.items()}
    inputs |= entries.purifier_inputs(seed, dataset, purifier)
    inputs |= entries.chosen(seed, dataset, [(entry, victim), (purifier, victim)])
    settings = entries.common(seed, dataset) | {
        "split": split,
        "threat": threat,
        "attack": entries.named("attacks", parsed.attack),
        "purifier": purifier,
        "denoiser": denoiser,
    }
    settings |= {role: entries.named("classifiers", name) for role, name in networks.items()}
    used = [("classifiers", entries.of("classifiers", name)) for name in networks.values()]
    used += [("attacks", point) for point in entry["points"].values()]
    return Job(inputs, settings, used + entries.purifier_components(purifier, denoiser))
