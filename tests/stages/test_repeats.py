"""Purifiers and networks that give one image two results are refused, others are not changed."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.stages import models, repeats

PREDICTED = "seed0/digits/predictions/plain/none/small/few.parquet"
ATTACKED = "seed0/digits/adversarial/bim@small+direct/few.h5"
DISTANCES = "seed0/digits/distances/plain/small/few.parquet"
EXAMPLES = "seed0/digits/examples/clean/direct/small/few.h5"
RANDOM = r"purifiers\.toy: toy\.{}: the purifier gives two results for one image and one noise"


def hidden(images):
    return (images + 0.01 * torch.randn_like(images)).clamp(0, 1)


def by_python(images):
    return (images + 0.01 * random.random()).clamp(0, 1)


def half_hidden(images, noise):
    return hidden((images + 0.01 * noise.normal(images)).clamp(0, 1))


def honest(images, noise):
    return (images + 0.01 * noise.normal(images)).clamp(0, 1)


def diverging(images):
    return images.where(images < 0.5, float("nan"))


def smaller(images):
    return images[:, :, 1:]


@pytest.fixture
def toys(component):
    functions = (hidden, by_python, half_hidden, honest, diverging, smaller)
    component("purifiers", **{function.__name__: function for function in functions})


def purifier(name: str) -> dict:
    return {"name": "toy", "points": {"default": {"function": f"toy.{name}", "settings": {}}}}


@pytest.mark.parametrize("file", [PREDICTED, ATTACKED, EXAMPLES])
def test_jobs_refuse_a_purifier_that_draws_for_itself(world, toys, tmp_path, file):
    with pytest.raises(BadInput, match=RANDOM.format("hidden")):
        world.run(file, tmp_path / "x", {"purifier": purifier("hidden")})


@pytest.mark.parametrize("name", ["by_python", "half_hidden"])
def test_whatever_it_draws_from(world, toys, tmp_path, name):
    with pytest.raises(BadInput, match=RANDOM.format(name)):
        world.run(PREDICTED, tmp_path / "x", {"purifier": purifier(name)})


def test_distances_refuse_one_among_several(world, toys, tmp_path):
    entries = world.settings(DISTANCES)["purifiers"]
    entries[1] |= purifier("hidden") | {"name": "direct"}
    with pytest.raises(BadInput, match=r"purifiers\.direct: toy\.hidden: the purifier gives two"):
        world.run(DISTANCES, tmp_path / "x.parquet", {"purifiers": entries})


@pytest.mark.parametrize("name", ["honest", "diverging"])
def test_what_repeats_is_judged(world, toys, tmp_path, name):
    assert world.run(PREDICTED, tmp_path / "x", {"purifier": purifier(name)}).exists()


def test_a_purifier_keeps_the_shape(world, toys, tmp_path):
    with pytest.raises(BadInput, match="turns images of 4x1x28x28 into 4x1x27x28"):
        world.run(PREDICTED, tmp_path / "x", {"purifier": purifier("smaller")})


class Net(nn.Module):
    def __init__(self, way: str):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.way = way

    def forward(self, images):
        result = self.first(images.flatten(1))
        if self.way == "dropout":
            result = functional.dropout(result, 0.5)
        if self.way == "noise":
            result = result + 1e-3 * torch.randn_like(result)
        if self.way == "batch":
            result = functional.batch_norm(result, None, None, training=True)
        return self.last(self.norm(result))


def images():
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("way", "message"),
    [("dropout", "training=self.training"), ("noise", "draw nothing"), ("batch", "running statis")],
)
def test_networks_that_give_two_outputs_are_refused(way, message):
    torch.manual_seed(0)
    with pytest.raises(BadInput, match=f"classifiers.x: .* gives two outputs .*{message}"):
        repeats.check_network("classifiers.x", Net(way).eval(), images())


def test_others_are_not():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    network = Net("").eval()
    after = torch.get_rng_state()
    repeats.check_network("classifiers.x", network, images())
    repeats.check_network("classifiers.x", network, images()[:1])
    repeats.check_network("classifiers.x", lambda images: network(images) * float("nan"), images())
    assert torch.equal(torch.get_rng_state(), after) and not torch.equal(before, after)


# ---------------------------------------------------------------- outputs and classes

SHAPE = (1, 8, 8)


def build(component, head, classes=10):
    component("classifiers", net=lambda shape, classes: head)
    entry = {"name": "net", "function": "toy.net", "settings": {}}
    return models.build("classifiers", entry, SHAPE, classes)


class Head(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.layer, self.give = nn.Linear(64, 10), give

    def forward(self, images):
        return self.give(self.layer(images.flatten(1)), images)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda logits, images: logits.repeat(1, 100), "outputs of 1x1000 for an image of 1x8x8"),
        (lambda logits, images: logits[:, :1], "outputs of 1x1 for"),
        (lambda logits, images: logits.view(1, 10, 1, 1), "outputs of 1x10x1x1"),
        (lambda logits, images: logits[0], "outputs of 10 for"),
        (lambda logits, images: (logits, logits), "gives a tuple"),
        (lambda logits, images: {"out": logits}, "gives a dict"),
        (lambda logits, images: images.view(3, 3), "does not take images of 1x8x8"),
    ],
)
def test_outputs_that_are_not_one_for_each_class_are_refused(component, give, message):
    with pytest.raises(BadInput, match=rf"classifiers\.net: toy\.net .*{message}"):
        build(component, Head(give))


def test_logits_of_images_and_of_pixels_are_taken(component):
    network = Head(lambda logits, images: logits)
    state = torch.get_rng_state()
    assert build(component, network).training and torch.equal(torch.get_rng_state(), state)
    dense = Head(lambda logits, images: images.expand(-1, 10, -1, -1))
    assert build(component, dense) is dense
