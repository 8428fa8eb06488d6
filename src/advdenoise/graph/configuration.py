"""The configuration: read, completed, converted to one unit, and checked before any job starts.

Every mistake ends in `BadInput` with one sentence: the key, what is wrong, what would be right.
Each module of `sections/` holds what is said of one section: its types, its completion, its checks.
"""

import copy
from typing import Any, NotRequired, TypedDict, cast

from advdenoise.errors import BadInput
from advdenoise.graph.schema import check_schema, leave_out_nulls, with_numbers
from advdenoise.graph.sections import (
    attacks,
    attributions,
    classifiers,
    datasets,
    denoisers,
    detectors,
    experiments,
    options,
    purifiers,
    suites,
)
from advdenoise.graph.sections.common import KINDS, Raw, check_datasets, check_without_choices


class Configuration(TypedDict):
    """A configuration in effect: complete, in pixels of [0,1], and checked."""

    scale: str
    data_root: str | None
    seeds: list[int]
    batch: int
    protect_weights: bool
    pathvars: NotRequired[dict[str, str]]
    datasets: dict[str, datasets.Dataset]
    classifiers: dict[str, classifiers.Classifier]
    attacks: dict[str, attacks.Attack]
    denoisers: dict[str, denoisers.Denoiser]
    purifiers: dict[str, purifiers.Purifier]
    attributions: dict[str, attributions.Attribution]
    detectors: dict[str, detectors.Detector]
    suites: dict[str, suites.Suite]
    distances: options.Distances
    hidden: options.Hidden
    detection: NotRequired[options.Detection]
    examples: NotRequired[options.Examples]
    cost: options.Cost
    choose: options.Choose
    everywhere: options.Everywhere
    experiments: dict[str, experiments.Experiment]
    # Keys of tables and figures that are null or read nothing; set here, by no file.
    left_out: NotRequired[list[str]]


def read(raw: dict[str, Any]) -> Configuration:
    """The configuration in effect, from what has been merged from the files.

    Fractions such as `8/255` become numbers, another `epsilon_unit` becomes pixels of [0,1],
    `everywhere` is put into the crossings, every entry holds its points in full. Raises `BadInput`.
    """
    if "include" in raw:
        raise BadInput("include: is read in a configuration file only; write it in one")
    config = with_numbers(copy.deepcopy(raw), "")
    declared = experiments.products(config)
    leave_out_nulls(config)
    check_schema(config)
    completed = _completed(config)
    completed["left_out"] = sorted(declared - experiments.products(config))
    return _checked(completed)


def _completed(config: Raw) -> Configuration:
    """Defaults, points, pixels as the unit, `everywhere`; later sections use earlier ones."""
    for kind in (*KINDS, "suites"):
        config.setdefault(kind, {})
    options.complete(config)
    datasets.complete(config)
    attacks.complete(config)
    purifiers.complete(config)
    attributions.complete(config)
    detectors.complete(config)
    suites.complete(config)
    experiments.complete(config)
    return cast("Configuration", config)


def _checked(config: Configuration) -> Configuration:
    """First each entry by itself, then what it names in other sections."""
    datasets.check(config)
    classifiers.check(config)
    denoisers.check(config)
    attacks.check(config)
    purifiers.check(config)
    check_without_choices(config, "attributions")
    check_without_choices(config, "detectors")
    experiments.check(config)
    check_datasets(config)
    classifiers.check_references(config)
    attacks.check_references(config)
    purifiers.check_references(config)
    denoisers.check_references(config)
    suites.check_references(config)
    options.check_references(config)
    experiments.check_references(config)
    return config
