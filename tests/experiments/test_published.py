"""The published numbers of all experiments, and the usual names that they print."""

import pytest

from advdenoise.io.published import Published
from advdenoise.reporting import labels
from tests.experiments import printed

FOLDERS = sorted((printed.REPOSITORY / "experiments").glob("*/published"))
PATHS = [path for folder in FOLDERS for path in sorted(folder.glob("table*.csv"))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_published_file_names_each_number_once(path):
    lines = Published(path.parent).lines(path.stem)
    keys = [(line["row"], line["column"]) for line in lines]
    assert len(set(keys)) == len(keys)
    assert {(line["paper"], f"table{line['table']}") for line in lines} == {
        (path.parts[-3], path.stem)
    }
    for row, column in keys:
        assert "|" not in row + column, "Markdown would take it for a border"
    assert Published(path.parent).numbers(path.stem).keys() == set(keys)


def test_the_usual_names_are_printed_somewhere():
    columns: dict[str, set] = {}
    for folder in FOLDERS:
        for name, values in printed.columns(folder.parent.name).items():
            columns.setdefault(name, set()).update(values)
    attacks = " ".join(columns["attack"])
    names = set(labels.ATTACKS.values()) - {"APGD", "APGD-T"}  # of no paper
    assert [name for name in names if name not in attacks] == []
    assert set(labels.CLASSIFIERS.values()) <= columns["classifier"]
    assert set(labels.DATASETS.values()) <= columns["dataset"]
