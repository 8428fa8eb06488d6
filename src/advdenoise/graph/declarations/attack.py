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
    other, other_denoiser = entries.purifier_through(entry) if purifier else (None, None)
    others = entries.purifier_inputs(seed, dataset, other)
    inputs |= {f"through_{name}": path for name, path in others.items()}
    used_here = [(entry, victim), (purifier, victim), (other, victim)]
    inputs |= entries.chosen(seed, dataset, used_here)
    settings = entries.common(seed, dataset) | {
        "split": split,
        "threat": threat,
        "attack": entries.named("attacks", parsed.attack),
        "purifier": purifier,
        "denoiser": denoiser,
    }
    settings |= {role: entries.named("classifiers", name) for role, name in networks.items()}
    if other:
        settings |= {"through": other, "through_denoiser": other_denoiser}
    if spare := [str(parsed._replace(attack=name)) for name in entry.get("spare", [])]:
        sets = [threats.parse(name) for name in spare]
        settings["spare"] = spare
        inputs["spare"] = entries.adversarial_sets(seed, dataset, sets, split)
    used = [("classifiers", entries.of("classifiers", name)) for name in networks.values()]
    used += [("attacks", point) for point in entry["points"].values()]
    used += entries.purifier_components(purifier, denoiser)
    return Job(inputs, settings, used + entries.purifier_components(other, other_denoiser))
