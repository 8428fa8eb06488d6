"""A folder outside the checkout: own networks, weights, purifier and table, and what reruns."""

import os
import shutil
from pathlib import Path

import pytest

from tests import mini

NETS = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, classes))

    def forward(self, images):
        return self.layers(images)


class Blur(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], shape[0], 3, padding=1)

    def forward(self, images):
        return self.conv(images)
"""
PURIFIERS = """
from draws import SCALE


def shaken(images, noise, size: float = 0.1):
    return (images + size * SCALE * noise.normal(images)).clamp(0, 1)
"""
TABLES = """
from advdenoise.reporting.measures import accuracy


def mine(predictions):
    return accuracy(predictions, lambda about: (about["threat"], about["purifier"]))
"""
CONFIG = f"""
include: [{mini.CONFIG}]
classifiers:
  net: {{function: "nets.py:Net", weights: weights/net.pth}}
denoisers:
  blur: {{function: "nets.py:Blur", weights: weights/blur.safetensors}}
purifiers:
  blur: {{function: basic.direct, denoiser: blur}}
  shaken: {{function: "purifiers.py:shaken", draws: 2}}
suites:
  own: {{threats: [clean, fgsm, fgsm+], purifiers: [none, blur, shaken]}}
experiments:
  own:
    tables:
      accuracy:
        function: "tables.py:mine"
        predictions: {{dataset: digits, classifier: net, suite: own, split: test}}
  defence: {{tables: {{accuracy: null, layers: null, explorer: null, calibration: null}}}}
"""
TABLE = {"tables/own/accuracy"}
EVALUATED = {f"predictions/own/{name}/net/test" for name in ("none", "blur", "shaken")}
ATTACKED = {f"adversarial/fgsm@net{known}/test" for known in ("", "+blur", "+shaken")}
SHAKEN = {"adversarial/fgsm@net+shaken/test", "predictions/own/shaken/net/test", *TABLE}
BLURRED = {
    *("denoisers/blur", "adversarial/fgsm@net+blur/test", "predictions/own/blur/net/test"),
    *TABLE,
}
ALL = {"classifiers/net", *ATTACKED, *EVALUATED, *TABLE}


# What is asked of Snakemake in that folder: the Snakefile is that of the checkout.
TARGET = (f"{mini.ROOT}/tables/own/accuracy.csv", "--snakefile", f"{mini.REPOSITORY}/Snakefile")
TARGET += ("--configfile", "mine.yaml")


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    """The folder, every result an empty file: only records of what they were made from count."""
    folder = tmp_path_factory.mktemp("elsewhere") / "mine"
    (folder / "weights").mkdir(parents=True)
    for name, text in {
        "nets.py": NETS,
        "purifiers.py": PURIFIERS,
        "draws.py": "SCALE = 1\n",
        "tables.py": TABLES,
        "mine.yaml": CONFIG,
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("net.pth", "blur.safetensors"):
        (folder / "weights" / name).write_bytes(b"some weights")
    for output in mini.outputs(folder, *TARGET):
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).touch()
    done = mini.snakemake(folder, "--touch", "--forceall", "--cores", "1", *TARGET)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def folder(laid_out, tmp_path) -> Path:
    return shutil.copytree(laid_out, tmp_path / "moved")


def planned(folder: Path) -> set[str]:
    return mini.planned(folder, *TARGET)


def test_nothing_reruns_after_a_move_a_copy_or_a_comment(folder):
    for path in folder.rglob("*.*"):
        if path.suffix in (".py", ".pth", ".safetensors") and mini.ROOT not in str(path):
            os.utime(path)
    nets = folder / "nets.py"
    nets.write_text(f'"""Some words."""\n# A comment.\n{NETS}', encoding="utf-8")
    assert planned(folder) == set()


def another(path: Path) -> None:
    """Another file in the place of one, of the same size and older."""
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, (1, 1))


@pytest.mark.parametrize(("file", "expected"), [("net.pth", ALL), ("blur.safetensors", BLURRED)])
def test_another_file_of_weights_reruns_what_follows_and_nothing_else(folder, file, expected):
    another(folder / "weights" / file)
    assert planned(folder) == expected


EDITED = {
    "draws.py": SHAKEN,
    "purifiers.py": SHAKEN,
    "tables.py": TABLE,
    "nets.py": ALL | BLURRED,
}


@pytest.mark.parametrize("file", EDITED)
def test_an_edit_of_own_code_reruns_what_uses_it(folder, file):
    with (folder / file).open("a", encoding="utf-8") as code:
        code.write("\n_CHANGED = True\n")
    assert planned(folder) == EDITED[file]


FAULTS = {
    "a missing file of weights": (
        ("weights/net.pth", "weights/nett.pth"),
        "classifiers.net.weights: weights/nett.pth does not exist; give the path of a file",
    ),
    "a missing file of code": (
        ("purifiers.py:shaken", "purifier.py:shaken"),
        "purifiers.shaken.function: there is no file purifier.py; correct the path",
    ),
    "a function of another name": (
        ("nets.py:Net", "nets.py:Nett"),
        "classifiers.net.function: nets.py defines no function or class 'Nett'; did you mean 'Net'",
    ),
    "an unknown setting": (
        ('"purifiers.py:shaken", draws: 2', '"purifiers.py:shaken", settings: {sise: 1}'),
        "purifiers.shaken.settings.sise: purifiers.py:shaken has no such setting; did you mean",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_before_any_job(folder, fault):
    change, sentence = FAULTS[fault]
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    (folder / "mine.yaml").write_text(text.replace(*change), encoding="utf-8")
    shutil.rmtree(folder / mini.ROOT)
    shown = mini.snakemake(folder, "--dry-run", *TARGET)
    assert shown.returncode != 0 and sentence in shown.stdout, shown.stdout
