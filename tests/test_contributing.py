"""CONTRIBUTING.md, docs/module.md, CHANGELOG.md and the files of the project's habits."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import advdenoise
from tests import mini

REPOSITORY = mini.REPOSITORY
PAGES = ("CONTRIBUTING.md", "docs/module.md", "CHANGELOG.md")
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
# What a reader makes, or another workflow has.
OTHERS = ("results", "denoising", "classes.", "NAME", "COMMIT")


def section(title: str) -> str:
    return re.search(rf"^##+ {title}\n(.*?)(?=^##)", CONTRIBUTING, re.S | re.M)[1]


def lint_commands() -> list[str]:
    return re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)[1].replace("\t", "").splitlines()


def test_versions_agree():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", changelog, re.M)
    newest = headings[headings[0] == "Unreleased"]  # what no version has yet stands above them
    assert {project["version"], citation["version"], newest} == {advdenoise.__version__}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_exists(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    missing = [name for name in links if not ((REPOSITORY / page).parent / name).exists()]
    if page != "CHANGELOG.md":  # which names paths of old versions
        named = re.findall(r"`([\w./-]+/[\w./-]*)`", text)
        named = [name for name in named if not any(part in name for part in OTHERS)]
        places = (REPOSITORY, REPOSITORY / "src" / "advdenoise")
        missing += [name for name in named if not any((p / name).exists() for p in places)]
    assert not missing


def test_from_a_number_to_what_decides_it():
    """Every step has a path, and what is said to be there is there."""
    text = section("From a number to what decides it")
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |\Z)", text, re.S | re.M)
    assert len(steps) == 5
    result, rule, script, module, setting = (re.findall(r"`([\w./]+\.\w+)`", s) for s in steps)
    (experiment,) = re.findall(r"^results/quick/tables/(\w+)/table6\.csv$", *result)
    folder = f"experiments/{experiment}"
    for path in rule + script + module + setting:
        assert (REPOSITORY / path).is_file(), path

    def read(path: str) -> str:
        return (REPOSITORY / path).read_text(encoding="utf-8")

    assert "<results>/tables/{experiment}/{table}.csv" in read(rule[0])
    assert Path(script[0]).name in read(rule[0])
    assert "advdenoise.stages.table import run" in read(script[0])
    tables = yaml.safe_load(read(f"{folder}/experiment.yaml"))["experiments"][experiment]
    assert tables["tables"]["table6"]["function"] == "tables.py:superpixels"
    assert "\ndef superpixels(" in read(f"{folder}/tables.py")
    quick = yaml.safe_load(read(f"{folder}/quick.yaml"))
    point = quick["attacks"]["z_score"]["points"]["fgsm"]
    assert point["function"] == "gradient.fgsm" and "\ndef fgsm(" in read(setting[2])
    assert quick["detectors"]["xgboost"]["function"] == "trees.xgboost"
    assert "\ndef xgboost(" in read(setting[3])


def test_every_make_target_that_is_named_exists():
    named = re.findall(r"`make ([a-z-]+)", CONTRIBUTING)
    named += re.findall(r"^make ([a-z-]+)", CONTRIBUTING, re.M)
    assert {"test", "test-slow", "lint", "slurm-test"} == set(named)
    assert set(named) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))


def test_what_runs_on_every_side_is_the_same():
    """`.ci/run` and GitHub, `make lint` and the hooks of a commit."""
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make ([a-z-]+)$", ci, re.M) == ["test", "test-slow", "lint", "slurm-test"]
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert [step["run"] for step in workflow["jobs"]["ci"]["steps"] if "run" in step] == [".ci/run"]
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = hooks["repos"]
    assert local["repo"] == "local"
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]]
    assert entries == lint_commands()


def test_the_catalogue_finds_its_files():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert {"mandatory-flags", "software-stack-deployment", "report"} == set(usage)
    assert (REPOSITORY / "workflow" / "Snakefile").is_file()
    assert (REPOSITORY / "config" / "README.md").is_file()


def test_a_command_of_the_walk_has_a_plan(tmp_path):
    (command,) = re.findall(r"`snakemake (-n .*?)`", section("From a number to what decides it"))
    done = mini.snakemake(REPOSITORY, *shlex.split(command))
    assert done.returncode == 0, done.stdout
    assert "rule table:" in done.stdout


def test_the_module_of_the_page_has_a_plan(tmp_path):
    """As it is written, but for the place of the clone."""
    clone = mini.copy_code(tmp_path / "clone", REPOSITORY / "config" / "config.yaml")
    mini.commit(clone)
    text = (REPOSITORY / "docs" / "module.md").read_text(encoding="utf-8")
    parts = re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)
    (config,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.S | re.M)
    folder = tmp_path / "other"
    folder.mkdir()
    snakefile = "\n\n".join(['configfile: "config.yaml"\n', *parts])
    (folder / "Snakefile").write_text(snakefile.replace("/PATH/TO/CLONE", str(clone)))
    (folder / "config.yaml").write_text(config)
    shown = mini.snakemake(folder, "--dry-run", "inspect")
    assert shown.returncode == 0, shown.stdout
    assert re.search(r"input: denoising/results/quick/tables/\w+/table6\.csv", shown.stdout)
    assert "denoising/results/quick/seed1/patches/classifiers/cnn26.safetensors" in shown.stdout
