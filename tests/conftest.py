"""Fixtures that tests of several folders share."""

import copy
import os
import sys
import types
from pathlib import Path

import pytest
from hypothesis import settings

from advdenoise.graph.yaml_files import read_files

REPOSITORY = Path(__file__).parents[1]

# Networks are small here: on a busy machine threads would spend a hundred times the work in waiting
# for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start find the library of this checkout.
os.environ["PYTHONPATH"] = str(REPOSITORY / "src")

# Nor is an example that takes long there a failure.
settings.register_profile("any_speed", deadline=None)
settings.load_profile("any_speed")


@pytest.fixture(scope="session")
def quick_file() -> dict:
    """The quick configuration as written in its file."""
    return read_files(REPOSITORY / "config" / "config.yaml")


@pytest.fixture
def quick(quick_file) -> dict:
    """A copy of the quick configuration for a test to change."""
    return copy.deepcopy(quick_file)


@pytest.fixture
def with_tf32():
    """TF32 switched on for convolutions and products; tells the flags as they are."""
    import torch

    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield lambda: [backend.allow_tf32 for backend in backends]
    for backend, was in zip(backends, before, strict=True):
        backend.allow_tf32 = was


@pytest.fixture(scope="session")
def own_file() -> dict:
    """The quick configuration with an experiment `mine`."""
    return read_files(REPOSITORY / "tests" / "own.yaml")


@pytest.fixture
def own(own_file) -> dict:
    """A copy of it for a test to change."""
    return copy.deepcopy(own_file)


@pytest.fixture
def results(tmp_path, own):
    """Result files of the quick scale with an experiment `mine`, of two replicates."""
    from tests.fake_results import Results

    own["seeds"] = [0, 1]
    return Results(tmp_path, own)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The files of a small workflow, which the stages write when a test first asks for them."""
    import torch

    from tests.stages.conftest import World

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield World(tmp_path_factory.mktemp("world"))
    torch.set_num_threads(threads)


@pytest.fixture
def component(monkeypatch):
    """Put functions into a module `toy` of a kind, so that settings can name `toy.function`."""

    def put(kind: str, **functions) -> None:
        module = types.ModuleType("toy")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, f"advdenoise.{kind}.toy", module)

    return put
