"""docs/recipes.md and README.md, followed as they are written, in a copy of the code."""

import copy
import csv
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

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


def run(folder: Path, command: str) -> str:
    """A command as written, by this interpreter; its output. Fails with all of it."""
    program, *arguments = shlex.split(command)
    module = {"snakemake": ["-m", "snakemake"], "python": []}[program]
    done = subprocess.run(
        [sys.executable, *module, *arguments],
        cwd=folder,
        env=mini.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=mini.PATIENCE,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


# ---------------------------------------------------------------- recipes


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The code as someone has it who has run nothing yet; the recipes add to it one by one."""
    folder = tmp_path_factory.mktemp("recipes") / "clone"
    mini.copy_code(folder, REPOSITORY / "config" / "config.yaml")
    shutil.copytree(REPOSITORY / "tests", folder / "tests")
    shutil.copy2(REPOSITORY / "pyproject.toml", folder)
    return folder


def follow(folder: Path, title: str) -> None:
    """Lay the recipe's files, run its commands, find what it says appears."""
    text = section(RECIPES, title)
    for name, content in files(text).items():
        assert not (folder / name).exists()
        (folder / name).write_text(content, encoding="utf-8")
    for command in commands(text):
        run(folder, command)
    for path in re.findall(r"`(results/[^`\s]+)`", text):
        assert list(folder.glob(path.rstrip("/"))), f"{path} has not appeared"


def table(folder: Path, path: str) -> list[dict]:
    with (folder / "results/quick/tables" / path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_add_a_denoiser(clone):
    follow(clone, "Add a denoiser")
    rows = {}
    for line in table(clone, "dapas/accuracy.csv"):
        assert line["column"] == line["purifier"]
        rows.setdefault(line["purifier"], []).append(line["row"])
    assert rows.keys() == {"none", "direct_bimodal", "direct_dncnn"}
    assert rows["direct_dncnn"] == rows["none"] and len(rows["none"]) == 3


def test_add_an_attack(clone):
    follow(clone, "Add an attack")
    lines = table(clone, "dapas/accuracy.csv")
    added = [line for line in lines if line["row"] == "patches, resnet18: fgm"]
    assert {line["column"] for line in added} == {"none", "direct_bimodal"}
    assert {line["threat"] for line in added} == {"fgm@resnet18"}
    clean = next(line for line in lines if line["threat"] == "clean" and line["column"] == "none")
    assert all(float(line["value"]) < float(clean["value"]) for line in added)


# The suite of the recipe.
ROBUST = ("clean", "fgsm", "pgd", "fgsm_true")


def test_add_a_data_set(clone):
    follow(clone, "Add a data set")
    value = {line["row"]: float(line["value"]) for line in table(clone, "mine/textures.csv")}
    assert value.keys() == {f"textures, cnn4: {threat}" for threat in ROBUST}
    # three classes
    assert value["textures, cnn4: clean"] > 50 > value["textures, cnn4: pgd"]


def test_new_code_is_as_tidy_as_the_old(tmp_path):
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is None:
        pytest.skip("ruff is not installed")
    found = {name: text for name, text in files(RECIPES).items() if name.endswith(".py")}
    assert len(found) == 3
    shutil.copy2(REPOSITORY / "pyproject.toml", tmp_path)
    for name, text in found.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *check, "."], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_one_more_data_set_in_an_entry_reruns_nothing(quick):
    """As the third recipe says of `digits`."""
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
    for rule, names in {
        "train_classifier": {"classifier": "cnn4"},
        "train_denoiser": {"denoiser": "dae_fgsm"},
        "calibrate": {"denoiser": "dae_fgsm"},
        "attack": {"threat": "fgsm@cnn4+direct_fgsm", "split": "test"},
        "evaluate": {"suite": "feature_losses", "purifier": "direct_fgsm", **judged},
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


def test_the_report_is_one_page(clone):
    """Written for the last recipe's table; skipped where that recipe was not followed."""
    target = "results/quick/tables/mine/textures.csv"
    if not (clone / target).exists():
        pytest.skip("needs the table of test_add_a_data_set")
    (line,) = [line for line in commands(README, "snakemake") if "--report" in line]
    mine = f"{line} --configfile config/config.yaml my_data.yaml"
    run(clone, mine.replace("snakemake", f"snakemake {target}", 1))
    page = (clone / line.split()[-1]).read_text(encoding="utf-8")
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


@pytest.mark.parametrize("text", [README, RECIPES], ids=["README", "recipes"])
def test_every_make_target_that_is_named_exists(text):
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z-]+)", text)
    named += [line.split()[1] for line in commands(text, "make")]
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
