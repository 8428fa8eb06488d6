"""Configuration files: what YAML would take in silence ends in one sentence with key and line."""

import json
import os
from pathlib import Path

import pytest
import yaml

from advdenoise.errors import BadInput
from advdenoise.graph import configuration, yaml_files

REPOSITORY = Path(__file__).parents[2]
SHIPPED = [*REPOSITORY.glob("config/*.yaml"), *REPOSITORY.glob("experiments/*/*.yaml")]
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 9)
)
NOTED = "".join(
    f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(9))}}}\n" for i in range(1, 9)
)

# The text of the file and what the one sentence must hold.
BROKEN = {
    "a key twice": (
        "attacks:\n  fgsm: {}\nattacks:\n  pgd: {}",
        ["attacks", "twice", "lines 1 and 3", "once"],
    ),
    "a scale twice": ("scale: a\nseeds: [0]\nscale: b\n", ["scale", "lines 1 and 3"]),
    "a key twice deep in a list": (
        "a: [{b: 1}, {c: 1,\n c: 2}]",
        ["a.1.c", "twice", "lines 1 and 2"],
    ),
    "an epoch as number and as text": ("s: {1: 0.1, '1': 0.2}", ["s.1", "twice"]),
    "a merge twice": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", ["b.<<", "lines 3 and 4"]),
    "nothing": ("", ["holds nothing"]),
    "a comment": ("# later", ["holds nothing"]),
    "a list": ("- scale: a", ["holds a list", "keys"]),
    "a text": ("later", ["holds a single value"]),
    "a number": ("3", ["holds a single value"]),
    "bytes": (b"scale: \xff\xfe", ["is no text", "byte 7"]),
    "a compressed file": (b"\x1f\x8b\x08\x00\x9a", ["is no text"]),
    "a control character": ("a: \x00", ["control characters", "correct the YAML"]),
    "a bracket that stays open": ("a: [1\nb: 2", ["line 2", "correct the YAML"]),
    "a tab": ("a:\n\tb: 1", ["line 2", "correct the YAML"]),
    "two documents": ("a: 1\n---\nb: 1", ["line 2", "another document"]),
    "an alias of nothing": ("a: *b", ["line 1", "undefined alias"]),
    "an anchor that holds itself": ("a: &x\n  b: *x", ["line 1", "a.b", "holds itself"]),
    "a list that holds itself": ("a: &x [1, *x]", ["a.1", "holds itself"]),
    "a billion laughs": (LAUGHS, ["aliases make more than"]),
    "a billion laughs of mappings": ("a0: &a0 {x: 1}\n" + NOTED, ["aliases make more than"]),
    "too many brackets": ("a: " + "[" * 10**5, ["nested too deeply"]),
    "too many brackets of JSON": ("[" * 10**5 + "]" * 10**5, ["nested too deeply"]),
    "a merge of a number": ("a: {<<: 3}", ["line 1", "merging"]),
    "a mapping as a key": ("? {a: 1}\n: 2", ["line 1", "is no key"]),
    "a key that is true": ("attacks: {yes: {}}", ["attacks.yes", "read as a bool", "in quotes"]),
    "a key that is null": ("~: 1", ["read as a null", "in quotes"]),
    "a key that is a date": ("a: {2020-01-01: 1}", ["a.2020-01-01", "in quotes"]),
    "an exponent without a point": (
        "c:\n  lr: 1e-3",
        ["line 2", "c.lr", "1e-3 is read as text", "write 1.0e-3"],
    ),
    "an exponent without a sign": ("a: [0.1, 2.5e3]", ["a.1", "write 2.5e+3"]),
    "a negative exponent": ("a: -.5E-3", ["write -0.5e-3"]),
    "not a number": ("a: {b: .nan}", ["a.b", "no finite number"]),
    "infinity": ("a: {b: -.inf}", ["a.b", "no finite number"]),
    "a number beyond all": ("a: 1.0e+999", ["no finite number"]),
    "a date": ("a: 2020-01-01", ["read as a date", "in quotes"]),
    "minutes": ("a: 1:30", ["is not read as it stands"]),
    "an octal number": ("a: 010", ["is not read as it stands", "decimal"]),
    "a number of 5000 digits": ("a: " + 5000 * "9", ["is not read as it stands"]),
    "an object of Python": ("a: !!python/name:os.system ''", ["python", "take it out"]),
    "a tag of its own": ("a: !mine {b: 1}", ["!mine", "take it out"]),
    "a set": ("a: !!set {b, c}", ["set", "take it out"]),
    "code": ("__use_yte__: true\n?1 + 1:\n  a: 1", ["__use_yte__", "take it out"]),
    "a key twice in JSON": ('{"a": {"b": 1, "b": 2}}', ["'b'", "twice"]),
    "not a number in JSON": ('{"a": NaN}', ["NaN", "finite"]),
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_told_in_one_sentence(tmp_path, text, expected):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as mistake:
        yaml_files.read_file(file)
    sentence = str(mistake.value)
    assert sentence.startswith(str(file))
    assert "\n" not in sentence and len(sentence) < len(str(file)) + 200
    for part in expected:
        assert part in sentence


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        yaml_files.read_file(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="is a folder"):
        yaml_files.read_file(tmp_path)


def test_what_yaml_reads_as_it_stands_is_taken(tmp_path):
    file = tmp_path / "mine.yaml"
    text = (
        "\ufeffa: &a {x: 1.0e-3, y: -2, z: 1_000}\nb: {<<: *a, y: '1e-3', v: '010'}\nc: [on, ~]\n"
    )
    file.write_text(text + "d: {5: .5}", encoding="utf-8")
    assert yaml_files.read_file(file) == {
        "a": {"x": 0.001, "y": -2, "z": 1000},
        "b": {"x": 0.001, "y": "1e-3", "z": 1000, "v": "010"},
        "c": [True, None],
        "d": {5: 0.5},
    }
    file.write_text('{"a": 1e-3, "b": [1, null]}')
    assert yaml_files.read_file(file) == {"a": 0.001, "b": [1, None]}


@pytest.mark.parametrize("path", sorted(SHIPPED), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_files_are_read_as_snakemake_reads_them(path):
    assert yaml_files.read_file(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seeds=[0,1]", [0, 1]),
        ("seeds=3", 3),
        ("batch=64.0", 64.0),
        ("protect_weights=true", True),
        ("data_root=~/data", "~/data"),
        ("attacks={pgd: {settings: {epsilon: 1e-3}, labels: predicted}}",
         {"pgd": {"settings": {"epsilon": 0.001}, "labels": "predicted"}}),
        ("data_root=", None),
        ("data_root={", "{"),
    ],
)  # fmt: skip
def test_options_are_read_by_type(text, value):
    assert yaml_files.override(text) == {text.partition("=")[0]: value}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working directory; its path."""
    monkeypatch.chdir(tmp_path)

    def file(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return file


def test_included_files_lie_below_in_their_order(write):
    write("below/a.yaml", "{batch: 1, seeds: [1], attacks: {x: {a: 1, b: 1}, y: {c: 1}}}")
    write("below/b.yaml", "{batch: 2, include: [deeper/c.yaml], attacks: {x: {b: 2}}}")
    write("below/deeper/c.yaml", "{batch: 3, scale: deep, attacks: {x: {b: 3, d: 3}}}")
    top = write(
        "top.yaml", "{attacks: {y: null}, include: [below/a.yaml, below/b.yaml], seeds: [0]}"
    )
    assert yaml_files.read_files(top) == {
        "scale": "deep",
        "batch": 2,
        "seeds": [0],
        "attacks": {"x": {"a": 1, "b": 2, "d": 3}, "y": None},
    }


def test_a_file_that_several_include_lies_below_all_of_them(write):
    write("shared.yaml", "{batch: 1, seeds: [0]}")
    write("a.yaml", "{include: [shared.yaml], batch: 2}")
    write("b.yaml", "{include: [./shared.yaml], seeds: [1]}")
    top = write("top.yaml", "include: [a.yaml, b.yaml, a.yaml, shared.yaml]")
    assert yaml_files.read_files(top) == {"batch": 2, "seeds": [1]}
    over = write("over.yaml", "{include: [top.yaml], batch: 3}")
    assert yaml_files.read_files(top, over) == {"batch": 3, "seeds": [1]}
    between = write("between.yaml", "seeds: [2]")
    assert yaml_files.read_files(top, between, over) == {"batch": 3, "seeds": [2]}


def test_files_are_included_by_relative_absolute_and_home_paths(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write("home/a.yaml", "batch: 1")
    write("b.yaml", "seeds: [0]")
    names = ["~/a.yaml", str(tmp_path / "b.yaml"), "../b.yaml"]
    top = write("folder/top.yaml", json.dumps({"include": names}))
    assert yaml_files.read_files(top) == {"batch": 1, "seeds": [0]}


def test_files_named_in_an_included_file_are_relative_to_it(write):
    entry = "{function: 'net.py:Net', weights: net.pt}"
    write("own/nets.yaml", f"classifiers: {{a: &a {entry}, b: *a, c: {{<<: *a, x: 1}}}}")
    write("own/net.py", "class Net: ...")
    top = write("runs/top.yaml", "include: [../own/nets.yaml]")
    entry = {"function": "own/net.py:Net", "weights": "own/net.pt"}
    assert yaml_files.read_files(top)["classifiers"] == {
        "a": entry,
        "b": entry,
        "c": entry | {"x": 1},
    }


def test_a_file_laid_over_an_alias_changes_one_entry(write):
    below = write("below.yaml", "attacks: {a: &a {settings: {x: 1}}, b: *a}")
    over = write("over.yaml", "attacks: {b: {settings: {x: 2}}}")
    assert yaml_files.read_files(below, over)["attacks"] == {
        "a": {"settings": {"x": 1}},
        "b": {"settings": {"x": 2}},
    }


def test_a_file_outside_the_checkout_includes_a_shipped_one(write):
    shipped = os.path.relpath(REPOSITORY / "config" / "config.yaml", "mine")
    text = f"{{include: [{shipped}], scale: mine, everywhere: {{attacks: [bounded]}}}}"
    config = configuration.read(yaml_files.read_files(write("mine/own.yaml", text)))
    assert config["scale"] == "mine"
    functions = {
        table["function"]
        for experiment in config["experiments"].values()
        for table in experiment["tables"].values()
    }
    files = [function.partition(":")[0] for function in functions if ":" in function]
    assert files and all((REPOSITORY / file).is_file() for file in files)
    assert all("bounded" in suite["threats"] for suite in config["suites"].values())


# The text of `include` and what the one sentence must hold.
NOT_INCLUDED = {
    "no file": ("[none.yaml]", ["none.yaml does not exist", "relative to this one"]),
    "no file of an absolute path": ("[/none/a.yaml]", ["/none/a.yaml does not exist"]),
    "a folder": ("[folder]", ["folder is a folder, not a file", "name a YAML file"]),
    "itself": ("[mine.yaml]", ["mine.yaml is this file or includes it", "take it out"]),
    "no path": ('["a\\0b"]', ["is not a path"]),
    "a text": ("other.yaml", ["must be a list of files", "write [FILE]"]),
    "nothing": ("null", ["must be a list of files"]),
    "a mapping": ("{a: b}", ["must be a list of files"]),
    "a list of lists": ("[[other.yaml]]", ["must be a list of files"]),
    "a number": ("[1]", ["must be a list of files"]),
}


@pytest.mark.parametrize(("text", "expected"), NOT_INCLUDED.values(), ids=NOT_INCLUDED)
def test_what_cannot_be_included_is_refused_in_one_sentence(write, text, expected):
    Path("folder").mkdir()
    with pytest.raises(BadInput) as mistake:
        yaml_files.read_files(write("mine.yaml", f"include: {text}\nbatch: 1"))
    sentence = str(mistake.value)
    assert sentence.startswith("mine.yaml: include: ") and "\n" not in sentence
    for part in expected:
        assert part in sentence


def test_a_circle_of_files_is_refused(write):
    write("a.yaml", "include: [b.yaml]")
    write("b.yaml", "include: [folder/c.yaml]")
    write("folder/c.yaml", "include: [../a.yaml]")
    with pytest.raises(BadInput, match=r"^folder/c.yaml: include: ../a.yaml is this file or incl"):
        yaml_files.read_files(Path("a.yaml"))


def test_a_mistake_in_an_included_file_names_that_file(write):
    write("own/a.yaml", "a: {b: 1, b: 2}")
    with pytest.raises(BadInput, match=r"^own/a.yaml: a.b: the key is given twice"):
        yaml_files.read_files(write("runs/top.yaml", "include: [../own/a.yaml]"))
