"""docs/recipes.md and README.md, followed as they are written, with a copy of the code."""

import copy
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config

from advdenoise.graph import configuration, sources
from advdenoise.graph.flow import Flow
from tests import mini

REPOSITORY = mini.REPOSITORY
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RECIPES = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
# What a run makes, what lies in a data root, or within results: no paths of the repository.
ELSEWHERE = {
    *("results", "logs", "benchmarks", "exported", "chosen", "train", "val"),
    *("MNIST", "FashionMNIST", "cifar-10-batches-py", "tiny-imagenet-200"),
    *("VOCdevkit", "sbd", "CamVid", "trainannot"),
}


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.S | re.M)[1]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def files(text: str) -> dict[str, str]:
    """Code and YAML blocks by file: the name that begins the paragraph above each."""
    return dict(
        re.findall(
            r"^`([^`\n]+)`(?:(?!\n\n).)*\n\n```(?:python|yaml)\n(.*?)^```$", text, re.S | re.M
        )
    )


def commands(text: str, program: str = "") -> list[str]:
    lines = [
        line.split("  #")[0].strip() for block in blocks(text, "sh") for line in block.split("\n")
    ]
    return [line for line in lines if line.startswith(program) and line]


def run(folder: Path, command: str, **more: str) -> str:
    """A command as written, by this interpreter; its output. Fails with all of it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=mini.environment(PATH=path, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * mini.PATIENCE,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


# ---------------------------------------------------------------- recipes


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The code as someone has it who has run nothing yet."""
    return mini.copy_code(
        tmp_path_factory.mktemp("recipes") / "checkout", REPOSITORY / "config" / "config.yaml"
    )


def state(folder: Path) -> dict[Path, int]:
    """The files of a folder but for compiled code, with their times of change."""
    result = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in result}


@pytest.fixture(scope="module")
def project(tmp_path_factory, checkout):
    """A folder of the user's own, to which the recipes add one by one; the checkout stays."""
    before = state(checkout)
    yield tmp_path_factory.mktemp("project")
    assert state(checkout) == before


def write(project: Path, title: str) -> None:
    for name, content in files(section(RECIPES, title)).items():
        (project / name).write_text(content, encoding="utf-8")


def run_recipe(project: Path, checkout: Path, command: str) -> None:
    installed = {"PYTHONPATH": str(checkout / "src")} if command.startswith("python") else {}
    run(project, command, WORKFLOW=str(checkout), **installed)


def follow(project: Path, checkout: Path, title: str) -> None:
    """Write the recipe's files, run its commands, look for what it says there is then.

    `python` finds the library as where it is installed; Snakemake and its jobs find it themselves.
    """
    text = section(RECIPES, title)
    write(project, title)
    for command in commands(text):
        run_recipe(project, checkout, command)
    for path in re.findall(r"`(results/[^`\s]+)`", text):
        assert list(project.glob(path.rstrip("/"))), f"{path} is not there"


def table(project: Path, path: str) -> dict[tuple[str, str], float]:
    """The values of a table by row and column."""
    with (project / "results/quick/tables" / path).open(encoding="utf-8", newline="") as file:
        return {
            (line["row"], line["column"]): float(line["value"]) for line in csv.DictReader(file)
        }


def test_add_a_denoiser(project, checkout):
    follow(project, checkout, "Add a denoiser")
    value = table(project, "my_denoiser/accuracy.csv")
    assert value.keys() == {
        ("digits, cnn4: clean", "none"),
        ("digits, cnn4: fgsm_true", "none"),
        ("digits, cnn4: clean", "direct_dncnn"),
        ("digits, cnn4: fgsm_true", "direct_dncnn"),
        ("digits, cnn4: fgsm_true+", "direct_dncnn"),
    }


def test_add_a_purifier(project, checkout):
    follow(project, checkout, "Add a purifier")
    value = table(project, "my_purifier/accuracy.csv")
    names = {
        threat: {p for row, p in value if row.endswith(threat)} for threat in ("bpda+", "eot+")
    }
    assert names == {"bpda+": {"three_bits"}, "eot+": {"shifted"}}
    rows = pd.read_parquet(
        project / "results/quick/seed0/digits/predictions/shifted/shifted/cnn4/studied.parquet"
    )
    assert set(rows["draw"]) == {0, 1, 2}


def test_add_an_attack(project, checkout):
    follow(project, checkout, "Add an attack")
    value = table(project, "my_attack/accuracy.csv")
    rows = {f"digits, cnn4: {name}" for name in ("clean", "fgm e1", "fgm e2")}
    assert value.keys() == {(row, "none") for row in rows}
    clean, small, large = (value[row, "none"] for row in sorted(rows))
    assert clean > small > large


# The suite of the recipe.
ROBUST = ("clean", "fgsm", "pgd", "fgsm_true")


def test_add_a_data_set(project, checkout):
    follow(project, checkout, "Add a data set")
    value = table(project, "my_data/textures.csv")
    assert value.keys() == {(f"textures, cnn4: {threat}", "none") for threat in ROBUST}
    # three classes
    assert value["textures, cnn4: clean", "none"] > 50 > value["textures, cnn4: pgd", "none"]


def test_add_a_trained_classifier(project, checkout):
    follow(project, checkout, "Add a trained classifier")
    value = table(project, "my_classifier/accuracy.csv")
    assert value.keys() == {(f"digits, net: {threat}", "none") for threat in ROBUST}
    assert value["digits, net: clean", "none"] > 80 > 50 > value["digits, net: pgd", "none"]


def test_add_a_table(project, checkout):
    """An own classifier with own weights and an own random purifier, in an own table."""
    if not (project / "net.pth").exists():  # Where this test runs alone.
        write(project, "Add a purifier")
        write(project, "Add a trained classifier")
        run_recipe(project, checkout, "python train.py")
    follow(project, checkout, "Add a table")
    value = table(project, "my_table/agreement.csv")
    assert {column for _, column in value} == {"none", "shifted"}
    assert all(number == 100 for (_, column), number in value.items() if column == "none")
    assert all(20 < number < 100 for (_, column), number in value.items() if column == "shifted")


def test_new_code_is_as_tidy_as_the_old(tmp_path):
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is None:
        pytest.skip("ruff is not installed")
    result = {name: text for name, text in files(RECIPES).items() if name.endswith(".py")}
    assert len(result) == 7
    shutil.copy2(REPOSITORY / "pyproject.toml", tmp_path)
    for name, text in result.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *check, "."], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_one_more_data_set_in_an_entry_reruns_nothing(quick):
    """As the recipe for data sets says of `digits`."""
    more = copy.deepcopy(quick)
    more["datasets"]["textures"] = more["datasets"]["digits"]
    entries = {
        "classifiers": ["cnn4", "vgg"],
        "denoisers": ["dae_fgsm"],
        "attributions": ["pixels"],
    }
    for kind, name in ((kind, name) for kind, names in entries.items() for name in names):
        known = ["digits", "patches"] if kind == "attributions" else ["digits"]
        more[kind][name]["datasets"] = [*known, "textures"]
    before, after = (Flow(configuration.read(config)) for config in (quick, more))
    judged = {"classifier": "cnn4", "split": "test"}
    suite = next(n for n, s in quick["suites"].items() if "direct_fgsm" in s["purifiers"])
    for rule, names in {
        "train_classifier": {"classifier": "cnn4"},
        "train_denoiser": {"denoiser": "dae_fgsm"},
        "calibrate": {"denoiser": "dae_fgsm"},
        "attack": {"threat": "fgsm@cnn4+direct_fgsm", "split": "test"},
        "evaluate": {"suite": suite, "purifier": "direct_fgsm", **judged},
        "iqr": {"threat": "clean", "attribution": "pixels", **judged},
    }.items():
        names = {"seed": "0", "dataset": "digits"} | names
        old, new = before.job(rule, names), after.job(rule, names)
        assert (old.inputs, old.settings) == (new.inputs, new.settings), rule
        assert before.code(rule)(names) == after.code(rule)(names)


# ---------------------------------------------------------------- README


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The code, and the files that the README has its reader write."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    mini.copy_code(folder, REPOSITORY / "config" / "config.yaml")
    mine, _ = blocks(README, "yaml")
    (folder / "mine.yaml").write_text(mine, encoding="utf-8")
    return folder


def test_the_entries_of_the_readme_fit_the_quick_scale(quick):
    for block in blocks(README, "yaml"):
        config = copy.deepcopy(quick)
        update_config(config, yaml.safe_load(block))
        assert configuration.read(config)


# Writing the report needs results: test_the_report_is_one_page writes one.
DRY = [line for line in commands(README, "snakemake") if "--report" not in line]


@pytest.mark.parametrize("line", DRY)
def test_a_command_of_the_readme_has_a_plan(fresh, line):
    """A dry run needs no data, so FOLDER need not be there; a graph is looked at before dot."""
    command = line.split(" | ")[0].split(" > ")[0]
    if "--rulegraph" in command:
        graph = run(fresh, command)
        assert "digraph snakemake_dag {" in graph or "flowchart TB" in graph
        assert "train_classifier" in graph
    else:
        shown = run(fresh, command + " --dry-run")
        assert "Job stats:" in shown and "This was a dry-run" in shown


def test_the_report_is_one_page(project, checkout):
    """Written for a recipe's table; skipped where that recipe was not followed."""
    target = "results/quick/tables/my_data/textures.csv"
    if not (project / target).exists():
        pytest.skip("needs the table of test_add_a_data_set")
    (line,) = [line for line in commands(README, "snakemake") if "--report" in line]
    more = f"--snakefile {checkout}/Snakefile --configfile my_data.yaml"
    run(project, f"{line} {more}".replace("snakemake", f"snakemake {target}", 1))
    page = (project / line.split()[-1]).read_text(encoding="utf-8")
    assert "textures" in page and "confidence" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']https?:", page)


@pytest.mark.parametrize("text", [README, RECIPES], ids=["README", "recipes"])
def test_every_path_that_is_named_exists(text):
    linked = re.findall(r"\]\(([^)#]+)\)", text)
    spans = [span for span in re.findall(r"`([\w./-]+)`", text) if "/" in span]
    own = files(RECIPES)
    named = [n for n in linked + spans if n.split("/")[0] not in ELSEWHERE and n not in own]
    assert named
    # NAME stands for any experiment.
    missing = [n for n in named if not any(REPOSITORY.glob(n.replace("NAME", "*")))]
    assert not missing


def test_every_make_target_that_is_named_exists():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z-]+)", README)
    named += [line.split()[1] for line in commands(README, "make")]
    assert named and set(named) <= set(re.findall(r"^([a-z-]+):", makefile, re.M))


def test_every_function_that_is_named_exists():
    cells = re.findall(r"^\| (`.*?) \|", section(README, "Your own data"), re.M)
    named = [name for cell in cells for name in cell.replace("`", "").split(", ")]
    assert sorted(named) == sorted(
        name for name in sources.functions("datasets") if not name.startswith("embedded.")
    )


def test_every_place_of_a_result_is_named():
    written = "".join(path.read_text(encoding="utf-8") for path in REPOSITORY.glob("rules/*.smk"))
    places = re.findall(r'"<results>/(?:seed\{seed\}/\{dataset\}/)?([^".]+)', written)
    assert len(places) > 10
    text = section(README, "Where things lie")
    assert not [place for place in places if place not in text]
