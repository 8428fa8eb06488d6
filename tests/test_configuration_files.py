"""The shipped configuration files: readable, each thing said once, in the right file."""

from pathlib import Path

import pytest

from advdenoise.graph.stages import crossings
from advdenoise.graph.yaml_files import read_file, read_files

REPOSITORY = Path(__file__).parents[1]
YAML = sorted(
    path
    for folder in ("config", "experiments", "envs", "profiles", "tests")
    for path in (REPOSITORY / folder).rglob("*.yaml")
)
EXPERIMENTS = sorted(path.name for path in (REPOSITORY / "experiments").iterdir() if path.is_dir())
SCALES = {"config.yaml": "quick.yaml", "papers.yaml": "papers.yaml"}


def products(config: dict, experiment: str) -> dict[tuple[str, str], dict]:
    """The tables and figures of an experiment, each by its part and its name."""
    entry = config["experiments"][experiment]
    return {
        (part, name): product or {}
        for part in ("tables", "figures")
        for name, product in entry.get(part, {}).items()
    }


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_line_has_more_than_100_columns(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [number for number, line in enumerate(lines, start=1) if len(line) > 100]


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_is_a_page_that_includes_every_experiment(scale):
    path = REPOSITORY / "config" / scale
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 110
    included = [(path.parent / name).resolve() for name in read_file(path)["include"]]
    expected = [REPOSITORY / "experiments" / name / SCALES[scale] for name in EXPERIMENTS]
    assert sorted(included) == expected


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_a_table_is_stands_once_for_all_scales(experiment):
    folder = REPOSITORY / "experiments" / experiment
    whole = read_file(folder / "experiment.yaml")
    assert list(whole) == ["experiments"] and list(whole["experiments"]) == [experiment]
    defined = products(whole, experiment)
    assert all("function" in product for product in defined.values())
    assert not any(set(product) & set(crossings()) for product in defined.values())
    used = set()
    for name in ("quick.yaml", "papers.yaml", "reduced.yaml"):
        at_scale = products(read_file(folder / name), experiment)
        assert not any("function" in product for product in at_scale.values())
        used |= set(at_scale)
    assert used <= set(defined)
    for name in ("quick.yaml", "papers.yaml"):
        assert read_file(folder / name)["include"] == ["experiment.yaml"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["classifiers", "attacks", "denoisers", "purifiers", "suites"])
def test_an_entry_belongs_to_one_experiment_or_to_all(scale, kind):
    files = [REPOSITORY / "config" / scale]
    files += [REPOSITORY / "experiments" / name / SCALES[scale] for name in EXPERIMENTS]
    names = [name for path in files for name in read_file(path).get(kind, {})]
    assert len(names) == len(set(names))


def test_the_readme_lists_the_experiments_by_their_titles():
    config = read_files(REPOSITORY / "config" / "config.yaml")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    titles = {name: entry["title"] for name, entry in config["experiments"].items()}
    rows = [line.split(" | ")[:2] for line in readme.splitlines() if line.startswith("| `")]
    listed = {name.strip("| `"): about for name, about in rows[: len(titles)]}
    assert listed == titles
