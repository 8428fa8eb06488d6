"""What the distances job tells of the network that it observed, and the passes that it spares."""

import pytest
import torch

from advdenoise.classifiers import convnets
from advdenoise.classifiers.convnets import elu_cnn, lenet
from advdenoise.errors import BadInput
from advdenoise.inference import capacity
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.stages import models

PLAIN = "seed0/digits/distances/plain/small/few.parquet"


def test_layers_and_parameters_are_counted():
    network = lenet((1, 28, 28), 10, channels=[4, 8], hidden=16)
    convolutions = 4 * 25 + 4 + 8 * 4 * 25 + 8
    dense = sum(
        p.numel()
        for m in network.modules()
        if isinstance(m, torch.nn.Linear)
        for p in m.parameters()
    )
    assert capacity.capacity(network) == {
        "parameters": convolutions + dense,
        "statistics": 0,
        "layers": 4,
        "modules": 10,
    }


def test_the_cnn_of_26_layers_has_the_size_that_keras_reports():
    size = capacity.capacity(elu_cnn((3, 32, 32), 10))
    assert (size["modules"], size["parameters"] + size["statistics"]) == (26, 309_290)
    assert (size["layers"], size["parameters"]) == (7, 308_394)


def test_a_network_that_cannot_be_built_names_its_entry(monkeypatch):
    def too_large(shape, classes):
        raise RuntimeError("[enforce fail] can't allocate memory\nmore")

    monkeypatch.setattr(convnets, "too_large", too_large, raising=False)
    entry = {"name": "mine", "function": "convnets.too_large"}
    with pytest.raises(BadInput, match=r"^classifiers\.mine: .* 3x8x8 and 5 classes .*; change"):
        models.build("classifiers", entry, (3, 8, 8), 5)
    entry["function"] = "convnets.lenet"
    with pytest.raises(BadInput, match=r"^classifiers\.mine: convnets\.lenet: .* 16x16"):
        models.build("classifiers", entry, (3, 8, 8), 5)


def test_the_file_tells_the_networks_capacity_and_the_shapes_of_its_maps(world):
    path = world.make(PLAIN)
    entry = read_provenance(path)["settings"]["classifier"]
    assert entry["name"] == "small" and entry["layers"] == 4 and entry["parameters"] > 0
    assert list(entry["shapes"]) == ["layers.0", "layers.6", "layers.9"]
    assert entry["shapes"]["layers.9"] == [10]
    frame = read_table(path).to_pandas()
    elements = frame.groupby("layer")["elements"].first()
    for layer, shape in entry["shapes"].items():
        assert elements[layer] == torch.Size(shape).numel()


def test_a_clean_image_without_purifier_needs_no_second_pass(world, tmp_path, monkeypatch):
    passes, forward = [], torch.nn.Module.__call__

    def counted(module, *inputs, **named):
        if type(module).__name__ == "Normalised":
            passes.append(len(inputs[0]))
        return forward(module, *inputs, **named)

    world.make(PLAIN)
    monkeypatch.setattr(torch.nn.Module, "__call__", counted)
    world.run(PLAIN, tmp_path / "again.parquet")
    # 12 images: clean, clean denoised, and three attack points without and with the denoiser.
    # Before them the network is tried: on a black image, and on four twice and on two of these.
    assert sum(passes) == 1 + 2 * 4 + 2 + 12 * (1 + 1 + 2 * 3)
