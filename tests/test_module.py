"""This workflow as a module of another one: from a folder, and from a git repository."""

import re
from pathlib import Path

import pytest

from advdenoise.io.provenance import read_provenance
from tests import mini

CLASSIFIER = "results/mini/seed0/digits/classifiers/cnn.safetensors"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A git repository of the workflow; its default configuration is the small one."""
    folder = mini.copy_code(tmp_path_factory.mktemp("module") / "repository")
    mini.commit(folder)
    return folder


def outer(folder: Path, text: str) -> Path:
    """Another workflow in a new folder."""
    folder.mkdir()
    (folder / "Snakefile").write_text(text, encoding="utf-8")
    return folder


def module(source: str, more: str = "", name: str = "adv") -> str:
    """A module statement, and the use of all rules under names with a prefix."""
    return f"""
module {name}:
    snakefile: {source}
    prefix: "{name}_files"
    {more}

use rule * from {name} as {name}_*
"""


def github(repository: Path, cache: Path) -> dict[str, str]:
    """An environment in which git reads owner/name of GitHub from a folder."""
    return {
        "XDG_CACHE_HOME": str(cache),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/owner/name",
    }


OWN = """
experiments:
  mine:
    tables:
      size:
        function: tables.py:size
        predictions: {dataset: digits, classifier: cnn, suite: purified, split: test}
"""
TARGETS = """
rule everything:
    default_target: True
    input:
        "first_files/results/mini/seed3/digits/classifiers/cnn.safetensors",
        rules.other_all.input,
"""


def test_two_modules_with_their_own_configurations(repository, tmp_path):
    """One changes the default, one has a file of the outer workflow's folder instead of it."""
    changed = '{"seeds": [3], "classifiers": {"cnn": {"settings": {"hidden": 8}}}}'
    text = module(f'"{repository}/Snakefile"', f"config: {changed}", "first")
    included = 'config: {"include": ["own.yaml"]}'
    text += module(f'"{repository}/workflow/Snakefile"', included, "other")
    folder = outer(tmp_path / "outer", text + TARGETS)
    entries = mini.CONFIG.read_text(encoding="utf-8").partition("experiments:")[0]
    (folder / "own.yaml").write_text(entries.replace("scale: mini", "scale: own") + OWN)
    (folder / "tables.py").write_text("def size(predictions):\n    return predictions\n")

    shown = mini.snakemake(folder, "--dry-run", "--printshellcmds")
    assert shown.returncode == 0, shown.stdout
    for words in (
        "rule first_train_classifier:",
        "output: first_files/results/mini/seed3/digits/classifiers/cnn.safetensors",
        "--resume first_files/results/mini/resume",
        '"hidden": 8',
        f"{repository}/scripts/train_classifier.py",
        "output: other_files/results/own/seed0/digits/classifiers/cnn.safetensors",
        "other_files/results/own/tables/mine/size.csv",
        '"function": "tables.py:size"',
    ):
        assert words in shown.stdout
    outputs = [line for line in shown.stdout.splitlines() if line.startswith("    output: ")]
    assert all(" first_files/" in line or " other_files/" in line for line in outputs)


@pytest.mark.parametrize(
    "source",
    [
        '"git+file://{}/Snakefile@main"',
        'github("owner/name", path="workflow/Snakefile", branch="main")',
    ],
    ids=["git+file", "github"],
)
def test_a_module_from_git_has_a_plan(repository, tmp_path, source):
    folder = outer(tmp_path / "outer", module(source.format(repository)))
    more = github(repository, tmp_path / "cache")
    shown = mini.snakemake(folder, "--dry-run", "--printshellcmds", **more)
    assert shown.returncode == 0, shown.stdout
    (copy,) = (folder / ".snakemake" / "modules").iterdir()
    assert f"python -P {copy}/scripts/evaluate.py" in shown.stdout
    assert "adv_files/results/mini/tables/defence/accuracy.csv" in shown.stdout


@pytest.mark.slow
def test_a_module_from_git_runs(repository, tmp_path):
    source = f'"git+file://{repository}/workflow/Snakefile@main"'
    folder = outer(tmp_path / "outer", module(source))
    target = f"adv_files/{CLASSIFIER}"
    strips = "adv_files/results/mini/figures/defence/strips.svg"
    done = mini.snakemake(folder, target, strips, "--cores", "1")
    assert done.returncode == 0, done.stdout
    (copy,) = (folder / ".snakemake" / "modules").iterdir()
    assert read_provenance(folder / target)["commit"] == copy.name
    assert {path.name for path in folder.iterdir()} == {"Snakefile", ".snakemake", "adv_files"}
    again = mini.snakemake(folder, target, strips, "--cores", "1")
    assert "Nothing to be done" in again.stdout, again.stdout


NAMED = """
classifiers:
  named:
    function: zoo.timm_model
    settings: {model: resnet18, weights: mine.pt}
    training:
      {function: plain.classify, epochs: 1, batch: 32, optimiser: {name: sgd, lr: 0.1}}
"""


def test_files_that_entries_name_have_no_prefix(repository, tmp_path):
    config = 'config: {"include": ["named.yaml"]}'
    folder = outer(tmp_path / "outer", module(f'"{repository}/Snakefile"', config))
    (folder / "named.yaml").write_text(NAMED)
    (folder / "mine.pt").touch()
    shown = mini.snakemake(folder, f"adv_files/{CLASSIFIER.replace('cnn', 'named')}", "--dry-run")
    assert shown.returncode == 0, shown.stdout
    assert re.search("    input: .* mine.pt\n", shown.stdout)


def test_two_versions_in_one_run_are_refused(repository, tmp_path):
    text = module(f'"{repository}/Snakefile"')
    text += module(f'"git+file://{repository}/Snakefile@main"', name="other")
    shown = mini.snakemake(outer(tmp_path / "outer", text), "--dry-run")
    assert shown.returncode == 1
    assert "use one version of this workflow in a run" in shown.stdout


def test_another_folder_of_results_is_a_prefix(repository, tmp_path):
    text = module(f'"{repository}/Snakefile"', 'pathvars: results="elsewhere"')
    shown = mini.snakemake(outer(tmp_path / "outer", text), "--dry-run")
    assert shown.returncode == 1
    assert "write `prefix: FOLDER` in the module" in shown.stdout
