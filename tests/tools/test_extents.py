"""What data sets say that they hold is what they hold."""

import copy

import numpy as np
import pytest

from advdenoise.calls import call_with
from advdenoise.datasets._splits import draw_split
from advdenoise.errors import BadInput
from advdenoise.graph import configuration, sources
from advdenoise.graph.yaml_files import read_files
from tests import mini
from tests.real_data import ROOT, needs
from tools.plan.extents import Extents

FOLDERS = {
    "archives.mnist": "MNIST",
    "archives.fashion_mnist": "FashionMNIST",
    "archives.cifar10": "cifar-10-batches-py",
    "archives.cifar10_grey": "cifar-10-batches-py",
}


def extents(dataset: dict, **more) -> Extents:
    config = read_files(mini.CONFIG) | more
    config["datasets"]["other"] = dataset
    return Extents(configuration.read(copy.deepcopy(config)))


def check(entry: dict, root=None) -> None:
    source = call_with(sources.load("datasets", entry), root=root)
    result = extents(entry).of("other")
    assert (result.train, result.test) == (len(source.train_labels), len(source.test_labels))
    assert result.shape == source.read(np.zeros(1, np.int64)).shape[1:]
    assert result.classes == len(source.classes)
    assert result.dense == (source.masks is not None)


@pytest.mark.parametrize("settings", [{}, {"train": 30}, {"train": 12, "test": 5}])
def test_embedded_images(settings):
    check({"function": "embedded.patches", "settings": settings})
    check({"function": "embedded.digits"})
    check({"function": "embedded.scenes", "settings": settings | {"size": 97, "digits": 3}})


def test_images_with_masks_that_are_not_there():
    entry = {"function": "segmentation.voc2012", "settings": {"sbd": True}}
    assert extents(entry).of("other") == (10_582, 1449, (3, 513, 513), 21, None, True)
    result = extents({"function": "segmentation.camvid"})
    assert result.of("other")[:4] == (367, 233, (3, 353, 481), 11)
    assert "as many images as the whole CamVid (367 and 233)" in result.assumptions[0]


@needs("CamVid")
def test_images_with_masks_of_a_data_root():
    result = extents({"function": "segmentation.camvid"}, data_root=str(ROOT)).of("other")
    assert (result.train, result.test, result.dense) == (40, 12, True)


@pytest.mark.parametrize(
    "function", [pytest.param(f, marks=needs(folder)) for f, folder in FOLDERS.items()]
)
def test_images_of_a_data_root(function):
    check({"function": function}, ROOT)


def test_every_data_set_tells_its_extent_before_it_is_there():
    for function in sources.functions("datasets"):
        assert hasattr(sources.load("datasets", {"function": function}).func, "extent"), function


def test_splits_have_the_sizes_that_are_drawn():
    splits = {
        "held_out": {"size": 100},
        "some": {"of": "train", "size": 50},
        "all_of_it": {"of": "some"},
        "few": {"of": "test", "size": 7},
    }
    entry = {"function": "embedded.digits", "splits": splits}
    result = extents(entry)
    source = sources.load("datasets", entry)()
    for split in ("train", "test", *splits):
        assert result.size("other", split) == len(draw_split(source, "other", split, splits)), split


def test_a_folder_is_assumed_until_its_root_is_given(tmp_path):
    from PIL import Image

    entry = {"function": "folders.imagenet_folder", "settings": {"size": 8}}
    result = extents(entry)
    assert result.of("other").shape == (3, 8, 8)
    assert result.of("other").train == 1_281_167
    (assumption,) = result.assumptions
    assert assumption.startswith(
        "Assumed of data set other: as many images as ImageNet (1,281,167 and 50,000)"
    )
    for place in ("train/cat/1", "train/cat/2", "train/dog/3", "val/cat/4", "val/dog/5"):
        path = tmp_path / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 12)).save(path)
    counted = extents(entry, data_root=str(tmp_path))
    assert counted.of("other") == (3, 2, (3, 8, 8), 2, None, False)
    assert not counted.assumptions


def test_a_data_set_that_tells_nothing_is_read_or_asked_for(monkeypatch):
    digits = sources.load("datasets", {"function": "embedded.digits"}).func
    monkeypatch.delattr(digits, "extent")
    assert extents({"function": "embedded.digits"}).of("other") == (
        1437,
        360,
        (1, 28, 28),
        10,
        None,
        False,
    )
    mnist = sources.load("datasets", {"function": "archives.mnist"}).func
    monkeypatch.delattr(mnist, "extent")
    with pytest.raises(BadInput, match=r"datasets\.other: how many .* `--config data_root=FOLDER`"):
        extents({"function": "archives.mnist"}).of("other")
