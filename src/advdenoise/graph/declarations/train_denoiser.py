"""The train_denoiser stage: one trained denoiser and its history."""

from advdenoise.graph import threats
from advdenoise.graph.jobs import Entries, Job
from advdenoise.graph.threats import CLEAN

OUTPUTS = (
    "seed{seed}/{dataset}/denoisers/{denoiser}.safetensors",
    "seed{seed}/{dataset}/denoisers/{denoiser}.history.parquet",
)
MODULE = "training"
FORMAT = 1


def job(entries: Entries, seed: str, dataset: str, denoiser: str) -> Job:
    """A training on clean images, noise and adversarial sets, in the shares of `trained_on`.

    With `weights` it reads that file, for images like those of the test split.
    """
    entry = entries.of("denoisers", denoiser)
    settings = {
        "seed": int(seed),
        "dataset": dataset,
        "denoiser": entries.named("denoisers", denoiser),
    }
    if "weights" in entry:
        return entries.weights_job("denoisers", dataset, entry, settings)
    training = entry["training"]
    split = training.get("split", "train")
    sources = [s["threat"] for s in entry["trained_on"] if s.get("threat", CLEAN) != CLEAN]
    attacked = [threats.parse(text) for text in dict.fromkeys(sources)]
    noises = entries.noises(entry)
    settings |= {
        "threats": [str(threat) for threat in attacked],
        "attacks": entries.attacks(attacked),
        "noises": noises,
    }
    inputs = entries.training_images(dataset, entry)
    inputs["adversarial"] = entries.adversarial_sets(seed, dataset, attacked, split)
    inputs |= entries.chosen(seed, dataset, entries.attacks_with_victims(attacked))
    used = [("denoisers", entry), ("training", training)]
    used += [("attacks", p) for noise in noises.values() for p in noise["points"].values()]
    if network := training.get("network"):
        inputs["network"] = entries.classifier(seed, dataset, network)
        settings["network"] = entries.named("classifiers", network)
        used.append(("classifiers", entries.of("classifiers", network)))
    if start := training.get("start"):
        inputs["start"] = entries.denoiser(seed, dataset, start)
        settings["start"] = entries.named("denoisers", start)
    return Job(inputs, settings, used)
