"""Fixtures that tests of several folders share."""

import copy
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]

# Networks are small here: on a busy machine threads would spend a hundred times the work in waiting
# for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nor is an example that takes long there a failure.
settings.register_profile("any_speed", deadline=None)
settings.load_profile("any_speed")


@pytest.fixture(scope="session")
def quick_file() -> dict:
    """The quick configuration as written in its file."""
    return yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def quick(quick_file) -> dict:
    """A copy of the quick configuration for a test to change."""
    return copy.deepcopy(quick_file)


def whole(quick_file: dict, paper: str) -> dict:
    """The quick configuration with an experiment that makes all of a paper, and no other."""
    path = REPOSITORY / "tests" / f"{paper}.yaml"
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    kinds = {kind: quick_file.get(kind, {}) | entries for kind, entries in own.items()}
    return quick_file | kinds | {"experiments": own["experiments"]}


@pytest.fixture(scope="session")
def segfault_file(quick_file) -> dict:
    """The quick configuration with an experiment that makes all of "segfault", and no other."""
    return whole(quick_file, "segfault")


@pytest.fixture
def segfault(segfault_file) -> dict:
    """A copy of it for a test to change."""
    return copy.deepcopy(segfault_file)


@pytest.fixture(scope="session")
def feature_losses_file(quick_file) -> dict:
    """The quick configuration with an experiment that makes all of "feature losses" alone."""
    return whole(quick_file, "feature_losses")


@pytest.fixture
def feature_losses(feature_losses_file) -> dict:
    """A copy of it for a test to change."""
    return copy.deepcopy(feature_losses_file)


@pytest.fixture(scope="session")
def apudae_file(quick_file) -> dict:
    """The quick configuration with an experiment that makes all of "apudae", and no other."""
    return whole(quick_file, "apudae")


@pytest.fixture
def apudae(apudae_file) -> dict:
    """A copy of it for a test to change."""
    return copy.deepcopy(apudae_file)


@pytest.fixture(scope="session")
def propagation_file(quick_file) -> dict:
    """The quick configuration with an experiment that makes all of "propagation", and no other."""
    return whole(quick_file, "propagation")


@pytest.fixture
def propagation(propagation_file) -> dict:
    """A copy of it for a test to change."""
    return copy.deepcopy(propagation_file)


@pytest.fixture(scope="session")
def dapas_file(quick_file) -> dict:
    """The quick configuration with an experiment that makes all of "dapas", and no other."""
    return whole(quick_file, "dapas")


@pytest.fixture
def dapas(dapas_file) -> dict:
    """A copy of it for a test to change."""
    return copy.deepcopy(dapas_file)
