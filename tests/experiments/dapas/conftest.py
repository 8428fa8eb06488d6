"""The configuration of this experiment."""

from tests.experiments.whole import fixtures

whole_file, whole = fixtures("dapas")
