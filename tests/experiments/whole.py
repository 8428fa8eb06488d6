"""Configurations of single experiments at the quick scale, for the tests in their folders."""

import copy

import pytest

from advdenoise.graph.yaml_files import read_files
from tests.experiments.printed import REPOSITORY


def whole(quick_file: dict, experiment: str) -> dict:
    """The quick configuration with an experiment that makes all of a paper, and no other."""
    own = read_files(REPOSITORY / "tests" / "experiments" / experiment / "whole.yaml")
    kinds = {kind: quick_file.get(kind, {}) | entries for kind, entries in own.items()}
    return quick_file | kinds | {"experiments": own["experiments"]}


def fixtures(experiment: str) -> tuple:
    """Fixtures: the configuration of one experiment, and a copy of it for a test to change."""

    @pytest.fixture(scope="session", name=f"{experiment}_file")
    def file(quick_file) -> dict:
        return whole(quick_file, experiment)

    @pytest.fixture(name=experiment)
    def copied(request) -> dict:
        return copy.deepcopy(request.getfixturevalue(f"{experiment}_file"))

    return file, copied
