"""The pinned environments agree with each other, and hold what the project imports."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
ENVS = REPOSITORY / "envs"
SETS = ["run", "dev", "benchmark"]
TESTED = "3.11"

# Where a package is imported, or called by conda, by another name than the one it is installed by.
IMPORTED_AS = {
    "PIL": "pillow",
    "art": "adversarial-robustness-toolbox",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "snakemake_executor_plugin_slurm": "snakemake-executor-plugin-slurm",
    "yaml": "pyyaml",
}
CONDA_NAMES = {"pytorch": "torch"}
FOLDERS = {
    "src": ["run"],
    "scripts": ["run"],
    "experiments": ["run"],
    "tools": ["run"],
    "tests": ["run", "dev"],
    "bench": ["run", "dev", "benchmark"],
}


def declared(name: str) -> dict[str, Requirement]:
    """The top-level packages of one set, `-r` followed."""
    result = {}
    for line in (ENVS / f"{name}.in").read_text().splitlines():
        if line.startswith("-r "):
            result |= declared(line.removeprefix("-r ").removesuffix(".in"))
        elif line and not line.startswith("#"):
            requirement = Requirement(line)
            result[requirement.name] = requirement
    return result


def blocks(name: str) -> list[str]:
    """The pins of one set, each with its hashes, as one line."""
    return (ENVS / f"{name}.txt").read_text().replace("\\\n", "").splitlines()


def pins(name: str, python: str = TESTED) -> dict[str, str]:
    """Package to version, as Linux with that Python installs them."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    versions = {}
    for block in blocks(name):
        requirement = Requirement(block.partition("--hash")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in versions
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            versions[requirement.name] = specifier.version
    return versions


@pytest.mark.parametrize("name", [*SETS, "uv"])
def test_every_pin_has_hashes_and_no_place(name):
    pin = re.compile(r"[a-z0-9-]+==\S+( ; [^#@]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [block for block in blocks(name) if not pin.fullmatch(block)] == []
    assert "://" not in (ENVS / f"{name}.in").read_text()


@pytest.mark.parametrize("name", [*SETS, "uv"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_is_declared_is_pinned(name, python):
    versions = pins(name, python)
    for package, requirement in declared(name).items():
        assert requirement.specifier.contains(versions[package]), package


def test_the_development_set_holds_the_run_set():
    assert set(blocks("run")) <= set(blocks("dev"))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_benchmark_compares_with_what_the_workflow_runs(python):
    run, benchmark = pins("run", python), pins("benchmark", python)
    for package in declared("benchmark").keys() & declared("run").keys():
        assert benchmark[package] == run[package]


@pytest.mark.parametrize("name", SETS)
def test_conda_files_say_the_same(name):
    text = (ENVS / f"{name}.yaml").read_text()
    assert "Untried" in text
    listed = yaml.safe_load(text)["dependencies"]
    assert listed.pop(0) == f"python={TESTED}"
    if isinstance(listed[-1], dict):
        listed += listed.pop()["pip"]
        listed.remove("pip")
    said = dict(re.split("=+", entry) for entry in listed)
    versions = pins(name)
    assert {CONDA_NAMES.get(package, package): said[package] for package in said} == {
        package: versions[package] for package in declared(name)
    }


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_undeclared_is_imported(folder):
    own = {"advdenoise", *FOLDERS} | sys.stdlib_module_names
    known = {package for name in FOLDERS[folder] for package in declared(name)}
    missing = {
        (name, str(path.relative_to(REPOSITORY)))
        for path in (REPOSITORY / folder).rglob("*.py")
        for name in imported(path) - own
        if IMPORTED_AS.get(name, name) not in known
    }
    assert missing == set()
