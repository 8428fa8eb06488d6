"""From an entry to its function: read by syntax, checked, loaded, handed what it lists."""

import ast
import functools
import subprocess
import sys

import pytest

from advdenoise.calls import call_with, injected_parameters, required_parameters
from advdenoise.errors import BadInput, suggest
from advdenoise.graph import components, sources
from advdenoise.graph.components import check, signature
from advdenoise.graph.sources import functions, load

KEY = "attacks.mine"


def entry(function: str, **settings) -> dict:
    return {"function": function, "settings": settings}


def refused(kind: str, inputs: dict, **more) -> str:
    with pytest.raises(BadInput) as mistake:
        check(kind, KEY, inputs, **more)
    sentence = str(mistake.value)
    assert "\n" not in sentence and sentence.startswith(KEY)
    return sentence


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of one kind with a module of its own, and a helper module."""
    folder = tmp_path / "attacks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_helpers.py").write_text("def hidden(images): ...\n")
    (folder / "mine.py").write_text(
        '''
import numpy

STEPS = 3
helper = numpy.sum

MOST = 9

def ranged(images, *, alpha: Annotated[float, Interval(gt=0, le=1)], draws: PositiveInt = 1,
           sides: tuple[Size, Size] = (1, 1), other: Annotated[int, Interval(le=MOST)] | None = 1,
           rule: Literal["linf", "l2"] = "l2", table: pandas.DataFrame = None):
    """Ranges are read from the syntax tree."""

def strong(images, labels, *, steps: int, mode: str = "a", rates: list[float] | None = None,
           radius: float | Tensor = 0.1, free=None, sizes: Sequence[int] = (1,), on: bool = False):
    """Nested functions do not count."""
    def inner(): ...

def weak(images): ...

def _private(images): ...

class Net: ...

async def later(): ...
'''
    )
    monkeypatch.setattr(sources, "LIBRARY", tmp_path)
    cached = (sources.functions, sources.modules, sources.locate)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_public_functions_of_public_modules_are_components(library):
    assert functions("attacks") == ("mine.ranged", "mine.strong", "mine.weak")


def test_a_signature_tells_what_is_handed_and_what_is_set(library):
    parsed = signature("attacks", KEY, "mine.strong")
    assert parsed.injected == ("images", "labels")
    assert parsed.required == ("steps",)
    assert parsed.optional == ("mode", "rates", "radius", "free", "sizes", "on")
    assert parsed.settings[0] == "steps" and parsed.types["rates"] == list[float] | None
    assert "free" not in parsed.types


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("mine.storng", ["'mine.storng'", "did you mean 'mine.strong'"]),
        ("mien.weak", ["'mine.weak'"]),
        ("mine._private", ["is not a function of attacks/"]),
        ("_helpers.hidden", ["is not a function"]),
        ("mine.Net", ["is not a function"]),
        ("mine.helper", ["is not a function"]),
        ("mine.inner", ["is not a function"]),
        ("mine", ["is not a function"]),
    ],
)
def test_an_unknown_function_is_refused_with_near_names(library, function, words):
    sentence = refused("attacks", entry(function))
    assert sentence.startswith("attacks.mine.function: ")
    assert all(word in sentence for word in words)


def test_an_unknown_setting_is_refused_with_near_names(library):
    sentence = refused("attacks", entry("mine.strong", step=1))
    assert sentence.startswith("attacks.mine.settings.step: ") and "'steps'" in sentence
    assert "there are none" in refused("attacks", entry("mine.weak", steps=1))
    assert "no such setting" in refused("attacks", entry("mine.strong", images=1, steps=1))


def test_a_missing_setting_is_refused_unless_the_stage_adds_it(library):
    assert "needs the setting 'steps'" in refused("attacks", entry("mine.strong"))
    check("attacks", KEY, entry("mine.strong"), engine=("steps",))
    check("attacks", KEY, {"function": "mine.weak"})


@pytest.mark.parametrize(
    ("setting", "fits", "does_not_fit"),
    [
        ("steps", [0, -3], [1.5, "3", True, None, [3]]),
        ("mode", ["a", ""], [1, None, ["a"]]),
        ("rates", [[0.1], None, [1, 2.5]], [0.1, "0.1", True]),
        ("radius", [1, 0.5], ["wide", None, True]),
        ("free", [1, "a", None, [1], True], []),
        ("sizes", [[1, 2]], [3, "12"]),
        ("on", [True, False], [0, 1, "yes", None]),
    ],
)
def test_a_setting_is_of_its_type(library, setting, fits, does_not_fit):
    inputs = {"steps": 1}
    for value in fits:
        check("attacks", KEY, entry("mine.strong", **inputs | {setting: value}))
    for value in does_not_fit:
        sentence = refused("attacks", entry("mine.strong", **inputs | {setting: value}))
        shown = {"None": "null", "True": "true"}.get(repr(value), repr(value))
        assert sentence.startswith(f"attacks.mine.settings.{setting}: must be ")
        assert f", got {shown}" in sentence


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("alpha", -0.05, "alpha: must be in (0, 1], got -0.05"),
        ("alpha", float("nan"), "alpha: must be a finite number, got nan"),
        ("alpha", "1e-3", "alpha: must be a number in (0, 1], got '1e-3'; write 0.001"),
        ("draws", 2.0, "draws: must be a whole number at least 1, got 2.0; write 2"),
        ("sides", [3, 0], "sides.1: must be in [1, 65536], got 0"),
        ("sides", [3], "sides: must have 2 members, got 1"),
        ("other", float("inf"), "other: must be a finite number, got inf"),
        ("rule", "linff", "rule: must be 'linf' or 'l2', got 'linff'; did you mean 'linf'?"),
        ("table", [{"a": float("nan")}], "table.0.a: must be a finite number, got nan"),
    ],
)
def test_a_setting_is_in_its_range(library, setting, value, sentence):
    settings = {"alpha": 1.0} | {setting: value}
    assert refused("attacks", entry("mine.ranged", **settings)) == f"{KEY}.settings.{sentence}"


def test_settings_in_their_ranges_are_taken(library):
    settings = {"alpha": 1, "draws": 3, "sides": [1, 2], "other": "any", "rule": "l2", "table": "x"}
    check("attacks", KEY, entry("mine.ranged", **settings))


def test_suggestions_are_near_names_or_all_there_are():
    assert suggest("fsgm", ["fgsm", "bim"]) == "did you mean 'fgsm'?"
    assert suggest("zzz", ["b", "a"]) == "there are: a, b"
    assert suggest("zzz", []) == "there are none"
    assert suggest(3, {"a": 1}) == "there are: a"


def test_load_binds_the_settings():
    parsed = load("attacks", entry("gradient.bim", steps=3, alpha=0.1, epsilon=0.2))
    assert isinstance(parsed, functools.partial)
    assert (parsed.func.__module__, parsed.func.__name__) == (
        "advdenoise.attacks.gradient",
        "bim",
    )
    assert parsed.keywords == {"steps": 3, "alpha": 0.1, "epsilon": 0.2}
    assert load("purifiers", {"function": "basic.none"}).keywords == {}


def test_provide_hands_over_what_is_listed_by_name():
    def component(labels, images, *, factor=1):
        return labels, images, factor

    assert injected_parameters(component) == ("labels", "images")
    assert call_with(component, images=1, labels=2, noise=3) == (2, 1, 1)
    bound = functools.partial(component, factor=5)
    assert injected_parameters(bound) == ("labels", "images")
    assert call_with(bound, images=1, labels=2) == (2, 1, 5)
    with pytest.raises(TypeError, match="labels"):
        call_with(component, images=1)


def test_a_component_can_do_without_what_has_a_default():
    def component(images, labels=None, *, factor=1):
        return images, labels, factor

    assert required_parameters(component) == ("images",)
    assert injected_parameters(component) == ("images", "labels")
    assert call_with(component, images=1) == (1, None, 1)
    assert call_with(component, images=1, labels=2) == (1, 2, 1)


def test_what_syntax_says_is_what_python_says():
    for kind in ("attacks", "detectors", "training"):
        for name in functions(kind):
            read = signature(kind, KEY, name)
            inputs = dict.fromkeys(read.required)
            loaded = load(kind, {"function": name, "settings": inputs})
            assert injected_parameters(loaded) == read.injected


def test_checking_imports_neither_torch_nor_the_component():
    code = (
        "import sys; from advdenoise.graph import components;"
        "entry = {'function': 'noise.gaussian', 'settings': {'sigma': 1}};"
        "components.check('attacks', 'a', entry);"
        "loaded = {'torch', 'numpy', 'advdenoise.attacks'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_files_that_settings_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("codes.bin", "more.bin", "default.bin"):
        (tmp_path / name).touch()
    arguments = ast.parse("def f(*, d='default.bin', e='own'): 0").body[0].args
    result = components._read(arguments, "", None)
    monkeypatch.setattr(components, "signature", lambda *_: result)
    settings = {
        "weights": "not_there.pth",
        "codes": "codes.bin",
        "listed": ["more.bin", "no_file", 3],
        "words": "resnet18",
        "weights_of_terms": [0.5, 0.5],
        "nothing": None,
    }
    entry = {"function": "mine.f", "settings": settings}
    assert components.named_files("classifiers", entry) == {
        "d": ["default.bin"],
        "weights": ["not_there.pth"],
        "codes": ["codes.bin"],
        "listed": ["more.bin"],
    }
    for kind, weights in (
        ("training", [0.5, 0.5]),
        ("detectors", "not_there.pth"),
        ("classifiers", "imagenet"),
        ("classifiers", "ResNet50_Weights.DEFAULT"),
    ):
        other = {"function": "mine.f", "settings": {"weights": weights, "d": "~/x"}}
        assert components.named_files(kind, other) == {}


# ---------------------------------------------------------------- functions and classes of files

OWN = {
    "nets.py": '''
import torch
from torch import nn

from elsewhere import Unknown
from parts import *
from parts import Base as Renamed

if torch:
    def in_a_branch(classes): ...

class Plain(nn.Module):
    """Without a constructor."""

class Own(nn.Module):
    def __init__(self, width, classes, depth: int = 2, *, mode: str = "a", **more): ...

class Inherits(Own): ...

class Imported(Renamed): ...

class Unreadable(Unknown): ...

variable = Own
typed: object = Own
''',
    "parts.py": "class Base:\n    def __init__(self, shape, size=3): ...\ndef starred(shape): 0\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in OWN.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "injected", "required", "optional", "is_open"),
    [
        ("Plain", (), (), (), False),
        ("Own", ("classes",), ("width",), ("depth", "mode"), True),
        ("Inherits", ("classes",), ("width",), ("depth", "mode"), True),
        ("Imported", ("shape",), (), ("size",), False),
        ("Unreadable", (), (), (), True),
        ("starred", ("shape",), (), (), False),
        ("in_a_branch", ("classes",), (), (), False),
    ],
)
def test_the_parameters_of_a_class_or_function_of_a_file(
    folder, name, injected, required, optional, is_open
):
    result = signature("classifiers", KEY, f"{folder}/nets.py:{name}")
    assert (result.injected, result.required, result.optional) == (injected, required, optional)
    assert result.open == is_open


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("variable", "but a variable; write a function variable"),
        ("typed", "but a variable; write a function typed"),
        ("Onw", "did you mean 'Own'"),
        ("Renmed", "did you mean 'Renamed'"),
    ],
)
def test_what_is_no_function_or_class_of_a_file(folder, name, words):
    with pytest.raises(BadInput, match=words):
        signature("classifiers", KEY, f"{folder}/nets.py:{name}")


@pytest.mark.parametrize(
    ("function", "settings", "is_open"),
    [
        ("torchvision.models:resnet18", {"weights", "progress"}, True),
        ("torchvision.models:VGG", {"features", "num_classes", "init_weights", "dropout"}, False),
    ],
)
def test_the_parameters_of_what_is_installed(function, settings, is_open):
    result = signature("classifiers", KEY, function)
    assert {*result.settings} == settings and result.open == is_open
    with pytest.raises(BadInput, match="there is no Python source of a module 'torch._C'"):
        signature("classifiers", KEY, "torch._C:ones")


def test_settings_may_come_before_what_is_handed():
    def component(width, images, depth=2, labels=None):
        return width, images, depth, labels

    bound = functools.partial(component, width=3)
    assert injected_parameters(bound) == ("images", "depth", "labels")
    assert call_with(bound, images=1, labels=4, noise=5) == (3, 1, 2, 4)


@pytest.mark.parametrize("kind", ["attacks", "purifiers", "attributions", "training", "tables"])
def test_only_what_builds_an_object_may_be_a_class(folder, kind):
    sentence = refused(kind, {"function": f"{folder}/nets.py:Plain"})
    assert f"is a class, but {kind} are functions" in sentence
    check("detectors", KEY, {"function": f"{folder}/nets.py:Plain"})


def test_a_parameter_of_own_code_that_is_neither_set_nor_handed_is_told(folder):
    (folder / "own.py").write_text("def own(images, model): ...\n")
    sentence = refused("attacks", {"function": f"{folder}/own.py:own"})
    assert "needs the setting 'model'; add it; attacks are handed callback, classifier" in sentence
