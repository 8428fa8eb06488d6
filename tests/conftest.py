"""Fixtures that tests of several folders share."""

import copy
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def quick_file() -> dict:
    """The quick configuration as written in its file."""
    return yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def quick(quick_file) -> dict:
    """A copy of the quick configuration for a test to change."""
    return copy.deepcopy(quick_file)


@pytest.fixture
def segfault(quick) -> dict:
    """The quick configuration with all tables and figures of "segfault"."""
    path = REPOSITORY / "tests" / "segfault.yaml"
    return _merged(quick, yaml.safe_load(path.read_text(encoding="utf-8")))


def _merged(base, more):
    """Laid over each other as Snakemake lays configuration files."""
    if not isinstance(base, dict) or not isinstance(more, dict):
        return more
    return base | {key: _merged(base.get(key), value) for key, value in more.items()}
