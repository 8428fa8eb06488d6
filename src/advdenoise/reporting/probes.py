"""Probes of defences: what a stage has measured of a classifier behind a purifier, for flags.

A probe's JSON file holds, under `points`, for each point of the purifier

    accuracy_range: largest minus smallest accuracy of five draws.
    logit_distance: the largest L2 distance of an image's normalised logits between them.
    hidden_randomness: whether two passes with equal noise differ.
    loop: whether a gradient is taken during inference.
    softmax: whether all outputs are probabilities that sum to 1.
    train_mode: whether any module is in training mode.
    batch_distance: the largest difference of logits between a batch and its images alone.
    instability: mean relative change of the loss near an image.

and in its settings the data set and the entries of classifier and purifier.
"""

from pathlib import Path

from advdenoise.reporting.read import read_values

Key = tuple[str, ...]


def read_probes(paths: list[Path]) -> dict[Key, dict[str, float | bool]]:
    """Probes by data set, classifier, purifier and point; of replicates the largest values."""
    probes: dict[Key, dict[str, float | bool]] = {}
    for value, settings in read_values(paths):
        names = [settings["classifier"]["name"], settings["purifier"]["name"]]
        for point, measured in value["points"].items():
            merged = probes.setdefault((settings["dataset"], *names, point), {})
            for name, number in measured.items():
                merged[name] = max(number, merged.get(name, number))
    return probes
