"""The section `classifiers`: networks that are attacked, defended or judged."""

from typing import TYPE_CHECKING, Literal, Required

from advdenoise.errors import BadInput
from advdenoise.graph import choices, components
from advdenoise.graph.sections import training
from advdenoise.graph.sections.common import Settings, check_configured, returned
from advdenoise.graph.sections.datasets import Dataset, has_masks
from advdenoise.graph.sections.networks import Conversion, check_conversion, check_origin
from advdenoise.graph.sections.training import Training

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

_SEGMENTER = "Segmenter"  # what functions return that predict masks


class Classifier(Conversion, total=False):
    """A classifier, trained or with weights from a file."""

    function: Required[str]
    settings: Settings
    training: Training
    weights: str
    outputs: Literal["logits", "probabilities"]
    datasets: list[str]


def check(config: "Configuration") -> None:
    """Check each classifier by itself. Raises BadInput."""
    for name, entry in config["classifiers"].items():
        key = f"classifiers.{name}"
        choices.refuse(key, entry)
        components.check("classifiers", key, entry)
        check_origin(key, entry)
        if "training" in entry:
            _check_training(f"{key}.training", entry, entry["training"])
        check_conversion(key, entry)


def check_references(config: "Configuration") -> None:
    """Check what each classifier names in other sections. Raises BadInput."""
    for name, entry in config["classifiers"].items():
        if "dataset" in entry.get("training", {}):
            _check_training_dataset(
                config, f"classifiers.{name}.training.dataset", entry, entry["training"]["dataset"]
            )
        training.check_references(config, "classifiers", name)


def is_segmenter(classifier: Classifier) -> bool:
    """Whether a classifier predicts masks, and not labels."""
    return returned("classifiers", classifier) == _SEGMENTER


def fits_images(classifier: Classifier, dataset: Dataset) -> bool:
    """Whether a classifier predicts what the images of a data set have, masks or labels."""
    return is_segmenter(classifier) == has_masks(dataset)


def _check_training(key: str, entry: Classifier, settings: Training) -> None:
    signature = training.check_function(key, settings)
    step = settings["function"]
    if "network" in signature.injected:
        raise BadInput(f"{key}.function: {step} trains denoisers only; choose another step")
    if "network" in settings:
        raise BadInput(f"{key}.network: {step} uses no network; take it out")
    learns, other = ("masks", "labels") if is_segmenter(entry) else ("labels", "masks")
    if learns not in signature.injected or other in signature.required_injected:
        raise BadInput(
            f"{key}.function: {entry['function']} learns from {learns}, but {step} does not use "
            "them; choose another step"
        )


def _check_training_dataset(
    config: "Configuration", key: str, entry: Classifier, name: str
) -> None:
    """A classifier may be trained on another data set, if that has what it learns from."""
    check_configured(config, "datasets", name, key)
    other = config["datasets"][name]
    if not fits_images(entry, other):
        has, needs = ("masks", "labels") if has_masks(other) else ("labels", "masks")
        raise BadInput(
            f"{key}: {name!r} has {has}, but the classifier learns from {needs}; "
            f"take a data set with {needs}"
        )
