"""Fixtures of the tables' tests."""

import pytest

from tests.fake_results import Results


@pytest.fixture
def results(tmp_path, quick):
    """The quick scale's result files, of two replicates."""
    quick["seeds"] = [0, 1]
    return Results(tmp_path, quick)
