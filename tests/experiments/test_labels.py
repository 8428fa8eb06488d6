"""The labels of one experiment rerun its tables and figures, and no other's."""

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import components, configuration
from advdenoise.graph.digests import closure
from advdenoise.graph.flow import Flow
from advdenoise.graph.stages import stages
from tests.experiments.printed import REPOSITORY

EXPERIMENTS = REPOSITORY / "experiments"


def labels_of(flow: Flow, rule: str, **names) -> set[str]:
    """The experiments whose labels a job's digest covers."""
    job = flow.job(rule, names)
    files = [components.module_file(kind, entry) for kind, entry in job.components]
    covered, _ = closure((stages()[rule].module, *sorted({*files, *job.sources})))
    paths = [root / source for source, root in covered]
    return {
        path.parent.name
        for path in paths
        if path.name == "labels.py" and (path.parent.parent == EXPERIMENTS)
    }


def test_digests_cover_the_labels_of_the_own_experiment_alone(quick):
    flow = Flow(configuration.read(quick))
    for name, experiment in flow.config["experiments"].items():
        assert labels_of(flow, "figures", experiment=name) == {name}
        for table, entry in experiment["tables"].items():
            if entry["function"] != "explorer.rows":
                assert labels_of(flow, "table", experiment=name, table=table) == {name}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("labels", "experiments/none.py:LABELS", ["there is no file experiments/none.py"]),
        ("labels", "tests/places.py:LABELS", ["tests/places.py defines no 'LABELS'"]),
        ("published", "experiments/none", ["experiments/none does not exist", "a folder of CSV"]),
    ],
)
def test_labels_and_numbers_that_are_nowhere_are_refused(own, key, value, words):
    own["experiments"]["mine"][key] = value
    with pytest.raises(BadInput) as mistake:
        configuration.read(own)
    for word in [f"experiments.mine.{key}: ", *words]:
        assert word in str(mistake.value)
