"""`python -m advdenoise check`: own functions that keep their contracts, and such that do not."""

import copy

import pytest
import torch
import yaml

from advdenoise import contracts
from advdenoise.__main__ import main
from advdenoise.graph import configuration
from advdenoise.graph.yaml_files import read_files
from tests import mini

CODE = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from advdenoise.datasets._source import in_memory


def images(*, reverse: bool = False, scale: int = 1):
    draw = np.random.RandomState(0)
    pixels = draw.randint(0, 256, (60, 1, 12, 12)).astype(np.uint8)
    return in_memory(["a", "b"], pixels if scale == 1 else pixels / 255, np.arange(60) % 2, 40)


class Net(nn.Module):
    def __init__(self, shape, classes, detached: bool = False, random: bool = False):
        super().__init__()
        self.last = nn.Linear(shape[0] * shape[1] * shape[2], classes)
        self.detached, self.random = detached, random

    def forward(self, images):
        images = images.detach() if self.detached else images
        images = images + torch.rand_like(images) if self.random else images
        return self.last(images.flatten(1))


class Denoiser(nn.Module):
    def __init__(self, shape, gain: float = 1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, images):
        return self.gain * functional.avg_pool2d(images, 3, 1, 1)


def attack(images, labels, predict, noise, epsilon, gain: float = 1.0, shared: bool = False):
    step = gain * epsilon * noise.uniform(images).sub(0.5).sign()
    step = step * images.mean() if shared else step
    return (images + step).clamp(0, 1) - images


def purify(images, noise, gain: float = 1.0, random: bool = False, shared: bool = False):
    images = gain * (images + 0.1 * noise.normal(images))
    images = images + 0.1 * torch.rand_like(images) if random else images
    images = images - images.mean() if shared else images
    return images.clamp(0, 1) if gain == 1 else images


def segments(image, first: int = 0):
    return np.arange(image.shape[0])[:, None].repeat(image.shape[1], 1) + first


class Detector:
    def __init__(self, sign: int = 1):
        self.sign = sign

    def fit(self, features, is_adversarial):
        self.centre = features[~is_adversarial].mean(0)

    def score(self, features):
        return self.sign * np.linalg.norm(features - self.centre, axis=1)
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def of(code, kind: str, name: str, **settings) -> dict:
    """The small configuration with one own entry of a kind, on the own data set."""
    config = copy.deepcopy(read_files(mini.CONFIG))
    del config["experiments"]["detection"]  # whose table is a file beside that of `mini`
    config["datasets"]["own"] = {"function": f"{code}:images"}
    entry = {"function": f"{code}:{name}", "settings": settings}
    if kind == "classifiers":
        entry["training"] = config["classifiers"]["cnn"]["training"]
    if kind == "denoisers":
        entry["training"] = config["denoisers"]["dae"]["training"]
        entry["trained_on"] = [{"threat": "clean", "share": 1}]
    if kind != "datasets":
        entry["datasets"] = ["own"]
    config[kind]["mine"] = entry
    return config


def results(config: dict) -> dict[str, str | None]:
    return dict(contracts.check(configuration.read(config)))


SOUND = {
    "classifiers": ("Net", {}),
    "denoisers": ("Denoiser", {}),
    "attacks": ("attack", {"epsilon": 0.1}),
    "purifiers": ("purify", {}),
    "attributions": ("segments", {}),
    "detectors": ("Detector", {}),
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_function_that_keeps_its_contract_is_said_to(code, kind):
    name, settings = SOUND[kind]
    assert results(of(code, kind, name, **settings)) == {f"{kind}.mine": None, "datasets.own": None}


BROKEN = [
    ("datasets", "images", {"scale": 255}, "images must be uint8"),
    ("classifiers", "Net", {"detached": True}, "has no gradient"),
    ("classifiers", "Net", {"random": True}, "gives two outputs for one image"),
    ("denoisers", "Denoiser", {"gain": 3.0}, r"gives values in .*; images lie in \[0,1\]"),
    ("attacks", "attack", {"epsilon": 0.1, "gain": 2.0}, "epsilon|budget"),
    ("attacks", "attack", {"epsilon": 0.1, "shared": True}, "alone than beside others"),
    ("purifiers", "purify", {"gain": 3.0}, r"images lie in \[0,1\]"),
    ("purifiers", "purify", {"random": True}, "two results for one image and one noise"),
    ("purifiers", "purify", {"shared": True}, "alone than beside others"),
    ("attributions", "segments", {"first": 1}, "with gaps"),
    ("detectors", "Detector", {"sign": -1}, "higher score must mean more adversarial"),
]


@pytest.mark.parametrize(("kind", "name", "settings", "words"), BROKEN)
def test_a_broken_contract_is_told(code, kind, name, settings, words):
    torch.manual_seed(0)
    sentence = results(of(code, kind, name, **settings))[f"{kind}.mine"]
    assert sentence is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(sentence)


def test_the_command_prints_a_line_for_each_and_fails_for_one(code, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(of(code, "purifiers", "purify")), encoding="utf-8")
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == ["datasets.own: ok", "purifiers.mine: ok"]
    file.write_text(yaml.safe_dump(of(code, "purifiers", "purify", gain=3.0)), encoding="utf-8")
    assert main(["check", str(file)]) == 1
    assert "purifiers.mine: " in capsys.readouterr().out
