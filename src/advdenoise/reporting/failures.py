"""Warnings below a table on outputs and gradients that were not finite."""

from collections.abc import Iterator

from advdenoise.reporting import labels
from advdenoise.reporting.read import Results

_OUTPUTS = "{}: {} had no finite output and count as wrong."
_GRADIENTS = (
    "{}: at {} outputs or a gradient were not finite, which moved nothing; the attack may be "
    "weaker than it looks."
)


def warnings(predictions: Results) -> list[str]:
    """A sentence for each purifier whose predictions, and each attack whose gradients, failed.

    Counts are of images, over all replicates.
    """
    return [*_of_outputs(predictions), *_of_gradients(predictions)]


def _of_outputs(predictions: Results) -> Iterator[str]:
    counts: dict[str, dict[str, list[int]]] = {}
    for settings in predictions.settings:
        for record in settings.get("not_finite", ()):
            names = [settings["dataset"], settings["classifier"]["name"]]
            purifier = labels.with_point(settings["purifier"]["name"], record["purifier_point"])
            where = f"{', '.join(names)}, {purifier}"
            _add(counts.setdefault(where, {}), record)
    for where, threats in counts.items():
        yield _OUTPUTS.format(where, _listed(threats, " under "))


def _of_gradients(predictions: Results) -> Iterator[str]:
    # The same attack is in the files of several purifiers.
    records: dict[tuple, dict] = {}
    for settings in predictions.settings:
        for record in settings.get("gradients_not_finite", ()):
            key = (settings["dataset"], record["threat"], record["attack_point"])
            records[*key, settings["split"], settings["seed"]] = record
    counts: dict[str, dict[str, list[int]]] = {}
    for (dataset, *_), record in records.items():
        _add(counts.setdefault(dataset, {}), record)
    for dataset, threats in counts.items():
        yield _GRADIENTS.format(dataset, _listed(threats, " of "))


def _add(threats: dict[str, list[int]], record: dict) -> None:
    threat = labels.with_point(record["threat"], record["attack_point"])
    count = threats.setdefault(threat, [0, 0])
    count[0] += record["images"]
    count[1] += record["of"]


def _listed(threats: dict[str, list[int]], word: str) -> str:
    return ", ".join(f"{n} of {of} images{word}{name}" for name, (n, of) in threats.items())
