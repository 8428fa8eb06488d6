"""The reference of keys and functions, and the command that prints it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.__main__ import main
from advdenoise.graph import keys, reference
from advdenoise.graph.schema import schema

REPOSITORY = Path(__file__).parents[2]


def listed(capsys, *arguments: str) -> str:
    assert main(["list", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_page_in_config_is_current():
    page = (REPOSITORY / "config" / "README.md").read_text(encoding="utf-8")
    assert page == reference.markdown(), f"run `{reference.COMMAND}`"


def test_every_key_of_the_schema_is_in_the_reference():
    def names(node):
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict):
                yield from node["properties"]
            for inner in node.values():
                yield from names(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from names(inner)

    listed = {key.path.split(".")[-1] for section in keys.sections() for key in section.keys}
    assert {*names(schema())} <= listed


def test_every_key_is_described_and_says_its_values():
    for section in keys.sections():
        assert section.description and section.keys, section.name
        for key in section.keys:
            assert key.description, key.path
            assert (
                key.values not in ("", "a mapping")
                or any(
                    other.path.startswith((f"{key.path}.", f"{key.path}[]"))
                    for other in section.keys
                )
                or key.path in {s.name for s in keys.sections()}
            ), key.path


@pytest.mark.parametrize("kind", reference.KINDS)
def test_every_function_is_on_the_page_with_its_settings(kind, capsys):
    page = reference.markdown()
    for one in reference.components(kind):
        assert f"#### `{one.name}`\n" in page
        assert one.summary, f"{kind}: {one.name} has no docstring"
        printed = listed(capsys, kind, one.name)
        for setting in one.settings:
            assert setting.name in printed and setting.values
            assert setting.values != "any value", f"{one.name}: {setting.name} has no type"


def test_list_prints_a_line_or_more_for_each_function(capsys):
    short = listed(capsys)
    assert "gradient.pgd " in short and "basic.direct " in short and "trees.xgboost " in short
    assert "gradient.pgd" not in listed(capsys, "purifiers")
    assert max(map(len, short.splitlines())) <= 100


def test_list_prints_ranges_and_defaults(capsys):
    assert "queries  a whole number at least 2; default 5000" in listed(
        capsys, "attacks", "blackbox.square"
    )
    # A constant of the module as a default, and one that is a fraction
    assert "default 1 / 255" in listed(
        capsys, "purifiers", "tests.own_purifiers:calibrated_descent"
    )
    assert "default [6, 12, 18]" in listed(capsys, "classifiers", "segmentation.deeplab_v3_plus")


def test_list_prints_keys(capsys):
    assert "datasets.NAME.splits.NAME.size" in listed(capsys, "keys")
    assert "split_seeds" in listed(capsys, "keys", "detection")


def test_the_commands_of_the_readme_print_something(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m advdenoise list (.*?)(?: +#.*)?$", text, re.M)
    assert len(commands) > 2
    for command in commands:
        assert len(listed(capsys, *command.split()).splitlines()) > 5, command


def test_list_prints_your_own_function(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = 'def flip(images, *, angle: Angle = 3.0):\n    """Turns images."""\n'
    Path("mine.py").write_text(source)
    printed = listed(capsys, "attacks", "mine.py:flip")
    assert "flip(images, *, angle)" in printed and "Turns images." in printed
    assert "angle  a number in [0, 180]; default 3.0" in printed


def test_list_prints_the_entries_of_a_configuration(capsys, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("attacks: {near: {function: gradient.fgsm, settings: {epsilon: 0.01}}}\n")
    printed = listed(capsys, "attacks", "--configfile", REPOSITORY / "config/config.yaml", mine)
    assert "near" in printed and "gradient.fgsm {epsilon: 0.01}" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["attack"], "list attack: no such kind; did you mean 'attacks'?"),
        (["attacks", "gradient.pdg"], "did you mean 'gradient.pgd'"),
        (["keys", "detections"], "did you mean 'detection'"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    assert main(["list", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_keys_need_the_repository(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(keys, "SCHEMA", tmp_path / "schema.yaml")
    keys.sections.cache_clear()
    assert main(["list", "keys"]) == 1
    assert "use the library of a clone of the repository" in capsys.readouterr().err


def test_list_imports_no_component():
    code = (
        "import sys\n"
        "from advdenoise.__main__ import main\n"
        "main(['list']), main(['list', '--markdown'])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, stdout=subprocess.DEVNULL)
