"""The types of sections have the keys that the schema describes, and no other."""

import pytest

from advdenoise.graph.configuration import Configuration
from advdenoise.graph.schema import schema
from advdenoise.graph.sections import (
    attacks,
    attributions,
    classifiers,
    common,
    datasets,
    denoisers,
    detectors,
    experiments,
    options,
    purifiers,
    suites,
    training,
)

ENTRIES = {
    "dataset": datasets.Dataset,
    "classifier": classifiers.Classifier,
    "denoiser": denoisers.Denoiser,
    "training": training.Training,
    "optimiser": training.Optimiser,
    "suite": suites.Suite,
    "experiment": experiments.Experiment,
}
# What an entry says of its functions stands in its points once it is complete.
WITH_POINTS = {
    "attack": attacks.Attack,
    "purifier": purifiers.Purifier,
    "attribution": attributions.Attribution,
    "detector": detectors.Detector,
}
OPTIONS = {
    "distances": options.Distances,
    "hidden": options.Hidden,
    "detection": options.Detection,
    "examples": options.Examples,
    "cost": options.Cost,
    "choose": options.Choose,
    "everywhere": options.Everywhere,
}


def test_the_keys_at_the_top():
    keys = set(schema()["properties"]) - {"include"}  # which files have, and no configuration
    # What is left out is no key of a file.
    assert set(Configuration.__annotations__) - {"left_out"} == keys


@pytest.mark.parametrize("name", [*ENTRIES, *WITH_POINTS])
def test_the_keys_of_entries(name):
    keys = set(schema()["$defs"][name]["properties"])
    if name in WITH_POINTS:
        keys -= {"function", "settings", "epsilons"}
    assert set((ENTRIES | WITH_POINTS)[name].__annotations__) == keys


def test_the_keys_of_points():
    point = schema()["$defs"]["points"]["additionalProperties"]
    assert set(common.Point.__annotations__) == set(point["properties"])


@pytest.mark.parametrize("name", OPTIONS)
def test_the_keys_of_options(name):
    assert set(OPTIONS[name].__annotations__) == set(schema()["properties"][name]["properties"])
