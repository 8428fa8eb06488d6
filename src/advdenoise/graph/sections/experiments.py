"""The section `experiments`: tables and figures, and what they read.

A product is a table or a figure. It reads the results of stages, each by crossings of names.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.combinations import combinations
from advdenoise.graph.components import Signature
from advdenoise.graph.sections.attacks import check_threat
from advdenoise.graph.sections.classifiers import fits_images
from advdenoise.graph.sections.common import KIND_OF, Raw, check_configured
from advdenoise.graph.sections.datasets import has_masks, split_names
from advdenoise.graph.sources import existing, locate_object
from advdenoise.graph.stages import crossings, stages
from advdenoise.ops.files import why_not_listable

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

PARTS: tuple[Literal["tables", "figures"], ...] = ("tables", "figures")
# Names to cross, by what they are names of: `{"dataset": [...], "classifier": [...], ...}`.
Crossing = dict[str, list[str]]
# A function with settings and, under the name of each stage that it reads, a list of crossings.
Product = dict[str, Any]


class Experiment(TypedDict):
    """A paper or an experiment of your own."""

    title: NotRequired[str]
    labels: NotRequired[str]
    published: NotRequired[str]
    seeds: list[int]
    tables: dict[str, Product]
    figures: dict[str, Product]


# ---------------------------------------------------------------- completion


def products(config: Raw) -> set[str]:
    """The keys of all tables and figures; the schema may not have been checked yet."""
    keys: set[str] = set()
    experiments = config.get("experiments")
    for name, experiment in experiments.items() if isinstance(experiments, dict) else ():
        for part in PARTS if isinstance(experiment, dict) else ():
            if isinstance(experiment.get(part), dict):
                keys |= {f"experiments.{name}.{part}.{product}" for product in experiment[part]}
    return keys


def complete(config: Raw) -> None:
    """Leave out what reads nothing, and lay out crossings as lists. Raises BadInput.

    Detectors that are put everywhere are added to the crossings that name detectors.
    """
    detectors = config["everywhere"].get("detectors", [])
    for name in detectors:
        check_configured(config, "detectors", name, "everywhere.detectors")
    for name, experiment in config["experiments"].items():
        _leave_out_empty(f"experiments.{name}", experiment)
        for part in PARTS:
            for product in experiment[part].values():
                _list_crossings(product, detectors)
        experiment.setdefault("seeds", config["seeds"])


def _leave_out_empty(key: str, experiment: Raw) -> None:
    """Tables and figures that read nothing at this scale; an experiment must have one that does."""
    products = [
        (part, name, product)
        for part in PARTS
        for name, product in experiment.setdefault(part, {}).items()
    ]
    empty = [(part, name) for part, name, product in products if not {*crossings()} & {*product}]
    if empty and len(empty) == len(products):
        place = ".".join((key, *empty[0]))
        raise BadInput(f"{place}: is made from nothing; add one of {', '.join(crossings())}")
    for part, name in empty:
        del experiment[part][name]


def _list_crossings(product: Raw, detectors: list[str]) -> None:
    """Every crossing becomes a list of mappings from key to list of names."""
    for stage in crossings():
        value = product.get(stage)
        if value is None:
            continue
        product[stage] = [
            {key: [v] if isinstance(v, str) else list(v) for key, v in crossing.items()}
            for crossing in (value if isinstance(value, list) else [value])
        ]
        if stage == "detection":
            for crossing in product[stage]:
                names = crossing.setdefault("detector", [])
                names += [name for name in detectors if name not in names]


# ---------------------------------------------------------------- checks


def check(config: "Configuration") -> None:
    """Check each experiment by itself. Raises BadInput."""
    figures = {f"figures_{name}" for name in config["experiments"]}
    for name, experiment in config["experiments"].items():
        if name in {"all", *stages(), *figures}:
            raise BadInput(
                f"experiments.{name}: {name!r} is the name of a rule, and an experiment has a rule "
                "of its own name; take another name"
            )
        _check_files(f"experiments.{name}", experiment)
    for part, key, product in _products(config):
        _check_reads(key, product, components.check(part, key, product))
        if part == "figures" and "on_demand" in product:
            raise BadInput(f"{key}.on_demand: figures are drawn in one job; take it out")


def check_references(config: "Configuration") -> None:
    """Check what tables and figures cross: names, and that the entries fit. Raises BadInput."""
    for _, key, product in _products(config):
        read = [stage for stage in crossings() if stage in product]
        for stage in read:
            for crossing in product[stage]:
                _check_crossing(config, f"{key}.{stage}", stage, crossing)
        combined, left_out = combinations(config, product)
        for stage in read:
            if stage not in combined:
                reason = f" ({left_out[0]})" if left_out else " (the suite has no purifiers)"
                raise BadInput(f"{key}.{stage}: nothing is left of it{reason}; cross other entries")


def _products(config: "Configuration") -> Iterator[tuple[str, str, Product]]:
    """Every table and figure with its part and its place in the configuration."""
    for name, experiment in config["experiments"].items():
        for part in PARTS:
            for product_name, product in experiment[part].items():
                yield part, f"experiments.{name}.{part}.{product_name}", product


def _check_files(key: str, experiment: Experiment) -> None:
    """Labels and published numbers are where an experiment says that they are."""
    if "labels" in experiment:
        locate_object(f"{key}.labels", experiment["labels"])
    if "published" in experiment:
        folder = experiment["published"]
        if reason := why_not_listable(existing(folder)):
            raise BadInput(f"{key}.published: {folder} {reason}; name a folder of CSV files")


def _check_reads(key: str, product: Product, signature: Signature) -> None:
    """A table or figure crosses just what its function reads."""
    crossed = [stage for stage in crossings() if stage in product]
    reads = [name for name in signature.injected if name in crossings()]
    for stage in crossed:
        if stage not in reads:
            raise BadInput(
                f"{key}.{stage}: {product['function']} reads {' and '.join(reads)}, not "
                f"{stage}; take it out"
            )
    for stage in signature.required_injected:
        if crossed and stage not in crossed:
            raise BadInput(f"{key}: {product['function']} reads {stage}; add the key {stage!r}")


def _check_crossing(config: "Configuration", key: str, stage: str, crossing: Crossing) -> None:
    _check_keys(key, stage, crossing)
    for name, kind in KIND_OF.items():
        for item in crossing.get(name, []):
            check_configured(config, kind, item, f"{key}.{name}")
    for text in crossing.get("threat", []):
        threat = check_threat(config, text, f"{key}.threat")
        if threat.purifier == "" and "purifier" not in crossings()[stage]:
            raise BadInput(f"{key}.threat: {text!r} names no purifier; write it after the +")
    for name in crossing.get("entry", []):
        if name not in (entries := choices.choosing(config)):
            raise BadInput(f"{key}.entry: {name!r} chooses nothing; {suggest(name, entries)}")
    for dataset in crossing["dataset"]:
        _check_dataset(config, key, stage, crossing, dataset)
    if stage == "detection" and "detection" not in config:
        raise BadInput(f"detection: the key is missing, but {key} needs it; say how to judge")
    for classifier in crossing["classifier"] if stage == "distances" else []:
        if classifier not in config["distances"]["taps"]:
            raise BadInput(
                f"distances.taps: classifier {classifier!r} has no taps, but {key} asks for its "
                "layers; name the modules to observe"
            )


def _check_keys(key: str, stage: str, crossing: Crossing) -> None:
    """A crossing has the keys that the stage's files are named by."""
    wanted = crossings()[stage]
    for name in crossing:
        if name not in (*wanted, "dataset"):
            raise BadInput(
                f"{key}.{name}: does not belong to {stage}; {suggest(name, (*wanted, 'dataset'))}"
            )
    for name in wanted:
        if not crossing.get(name) and (name, stage) != ("purifier", "predictions"):
            raise BadInput(f"{key}: the key {name!r} is missing; add it")


def _check_dataset(
    config: "Configuration", key: str, stage: str, crossing: Crossing, dataset: str
) -> None:
    """A data set has the splits of a crossing, and what its classifiers predict."""
    for classifier in crossing.get("classifier", []):
        _check_classifier(config, f"{key}.classifier", dataset, classifier)
    splits = split_names(config["datasets"][dataset])
    for split in crossing.get("split", []):
        if split not in splits:
            raise BadInput(
                f"{key}.split: data set {dataset!r} has no split {split!r}; "
                f"{suggest(split, splits)}"
            )
    if stage == "calibration" and "held_out" not in config["datasets"][dataset]["splits"]:
        raise BadInput(
            f"{key}.dataset: data set {dataset!r} holds nothing out to calibrate on; add "
            f"datasets.{dataset}.splits.held_out or take it out here"
        )


def _check_classifier(config: "Configuration", key: str, dataset: str, name: str) -> None:
    """A segmenter runs on images with masks, any other classifier on images with labels."""
    entry = config["classifiers"][name]
    if dataset not in entry.get("datasets", [dataset]):
        return
    if not fits_images(entry, config["datasets"][dataset]):
        has, needs = "labels", "another classifier"
        if has_masks(config["datasets"][dataset]):
            has, needs = "masks", "a segmenter"
        raise BadInput(
            f"{key}: {name!r} ({entry['function']}) does not fit data set {dataset!r}, whose "
            f"images have {has}; take {needs}"
        )
