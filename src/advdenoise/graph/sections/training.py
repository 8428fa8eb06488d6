"""The key `training` of classifiers and denoisers: a step that suits them, and its optimiser."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, Required, TypedDict

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import components
from advdenoise.graph.components import Signature
from advdenoise.graph.sections.common import Settings, check_configured
from advdenoise.graph.sections.datasets import BUILT_IN_SPLITS, split_names
from advdenoise.graph.sections.networks import conversion
from advdenoise.training._settings import check_optimiser

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

GENERATOR_UPDATE = "GeneratorUpdate"  # what a step returns that trains generators

Kind = Literal["classifiers", "denoisers"]


class Optimiser(TypedDict, total=False):
    """An optimiser and its settings; `lr` is the learning rate."""

    name: Required[Literal["sgd", "adam", "rmsprop"]]
    lr: Required[float]
    momentum: float
    nesterov: bool
    weight_decay: float
    weight_decay_on: Literal["all", "convolutions"]
    betas: list[float]
    eps: float
    alpha: float
    decay: float


class Phase(TypedDict):
    """Epochs with an optimiser of their own; `schedule` is the learning rate from an epoch on."""

    epochs: int
    optimiser: Optimiser
    schedule: NotRequired[dict[str, float]]


class Stop(TypedDict):
    """The accuracy after which a training ends."""

    measured_on: Literal["train", "held_out"]
    accuracy: float


class Training(TypedDict, total=False):
    """How a network is trained. `network` is the classifier that guides a denoiser's training."""

    function: Required[str]
    settings: Settings
    split: str
    dataset: str
    network: str
    start: str
    epochs: Required[int]
    batch: Required[int]
    precision: Literal["float32", "bfloat16"]
    optimiser: Required[Optimiser]
    schedule: dict[str, float]
    phases: list[Phase]
    stop: Stop


def check_function(key: str, training: Training) -> Signature:
    """Check a training's step and optimisers; gives the step's signature. Raises BadInput."""
    signature = components.check("training", key, training)
    check_optimiser(f"{key}.optimiser", training["optimiser"])
    for place, phase in enumerate(training.get("phases", [])):
        check_optimiser(f"{key}.phases.{place}.optimiser", phase["optimiser"])
    return signature


def check_references(config: "Configuration", kind: Kind, name: str) -> None:
    """Check what the training of an entry names: a start, a split, held-out images, a data set."""
    key, entry = f"{kind}.{name}", config[kind][name]
    if "training" not in entry:
        return
    training = entry["training"]
    if "start" in training:
        _check_start(config, kind, name, training["start"])
    if training.get("stop", {}).get("measured_on") == "held_out":
        _check_held_out(config, key, entry)
    _check_split(config, key, entry)


def check_trained(
    config: "Configuration", key: str, entry: Mapping[str, Any], word: str, kind: Kind
) -> None:
    """Check that the entry which `training.WORD` names is there for all of this entry's data sets.

    Raises BadInput.
    """
    name = entry["training"][word]
    check_configured(config, kind, name, f"{key}.training.{word}")
    datasets = config[kind][name].get("datasets")
    for dataset in entry.get("datasets", config["datasets"]):
        if datasets is not None and dataset not in datasets:
            raise BadInput(
                f"{key}.training.{word}: {name!r} is not for data set {dataset!r}; add it to "
                f"{kind}.{name}.datasets or say {key}.datasets without it"
            )


def _check_start(config: "Configuration", kind: Kind, name: str, start: str) -> None:
    """A start is trained before, and its weights fit."""
    key, entries = f"{kind}.{name}", config[kind]
    check_trained(config, key, entries[name], "start", kind)
    if _architecture(kind, entries[start]) != _architecture(kind, entries[name]):
        raise BadInput(
            f"{key}.training.start: {start!r} has another function or other settings, so that its "
            "weights do not fit; give both the same or take the start out"
        )
    chain = [name]
    while parent := _start_of(entries, chain[-1]):
        chain.append(parent)
        if parent in chain[:-1]:
            circle = " -> ".join(chain[chain.index(parent) :])
            raise BadInput(
                f"{kind}.{parent}.training.start: {parent!r} starts from itself ({circle}); name "
                "another entry"
            )


def _start_of(entries: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    start: str | None = entries.get(name, {}).get("training", {}).get("start")
    return start


def _architecture(kind: Kind, entry: Mapping[str, Any]) -> tuple[str, Settings]:
    """What decides the shapes of an entry's weights, and what the network makes of them."""
    settings = components.without_first_weights(kind, entry)["settings"]
    return entry["function"], settings | conversion(entry)


def _check_split(config: "Configuration", key: str, entry: Mapping[str, Any]) -> None:
    """The split that an entry is trained on is one of every data set that the entry names."""
    split = entry["training"].get("split", BUILT_IN_SPLITS[0])
    splits = {name: split_names(dataset) for name, dataset in config["datasets"].items()}
    named = entry.get("datasets", [])
    if named or not any(split in own for own in splits.values()):
        for dataset in named or splits:
            if split not in splits[dataset]:
                raise BadInput(
                    f"{key}.training.split: data set {dataset!r} has no split {split!r}; "
                    f"{suggest(split, splits[dataset])}"
                )


def _check_held_out(config: "Configuration", key: str, entry: Mapping[str, Any]) -> None:
    own = entry.get("datasets", config["datasets"])
    for dataset in [entry["training"]["dataset"]] if "dataset" in entry["training"] else own:
        if "held_out" not in config["datasets"][dataset]["splits"]:
            raise BadInput(
                f"{key}.training.stop.measured_on: data set {dataset!r} holds nothing out; add the "
                f"split held_out to it or say {key}.datasets without it"
            )
