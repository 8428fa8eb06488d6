import json

import numpy as np
import pytest
import torch
from torch import nn

from advdenoise.attributions import _nodes
from advdenoise.errors import BadInput

SHAPES = {"conv": (6, 5, 4), "flat": (7,)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ELU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).eval()


def test_nodes_depend_on_seed_classifier_and_layer():
    nodes = _nodes.draw_nodes(0, "cnn", SHAPES, 10)
    assert nodes == _nodes.draw_nodes(0, "cnn", SHAPES, 10)
    assert nodes.indices["flat"] == _nodes.draw_nodes(0, "cnn", {"flat": (7,)}, 10).indices["flat"]
    assert nodes.indices["conv"] != _nodes.draw_nodes(1, "cnn", SHAPES, 10).indices["conv"]
    assert nodes.indices["conv"] != _nodes.draw_nodes(0, "resnet", SHAPES, 10).indices["conv"]


def test_coordinates_are_independent_and_repeat():
    nodes = _nodes.draw_nodes(0, "cnn", {"conv": (6, 5, 4)}, 6000)
    counts = np.bincount(nodes.indices["conv"], minlength=120)
    assert len(counts) == 120
    # Uniform over the 120 elements: 50 each, with a standard deviation of 7.
    assert counts.min() > 50 - 6 * 7 and counts.max() < 50 + 6 * 7
    assert len(set(_nodes.draw_nodes(0, "cnn", {"conv": (64, 32, 32)}, 200).indices["conv"])) > 190


def test_nodes_can_be_stored_as_json():
    nodes = _nodes.draw_nodes(3, "cnn", SHAPES, 4)
    stored = json.loads(json.dumps({"shapes": nodes.shapes, "indices": nodes.indices}))
    shapes = {name: tuple(shape) for name, shape in stored["shapes"].items()}
    assert _nodes.Nodes(shapes, stored["indices"]) == nodes


def test_4k_of_the_26_layer_network():
    """Layers 6 to 24, 200 nodes of each, and 10 probabilities (Al Bared and Nassar 2021)."""
    sides = [(32, 16)] * 2 + [(64, 16)] * 6 + [(64, 8)] * 2 + [(128, 8)] * 6 + [(128, 4)] * 2
    shapes = {f"layers.{i}": (c, s, s) for i, (c, s) in enumerate(sides, start=6)}
    shapes["layers.24"] = (2048,)
    assert len(_nodes.draw_nodes(0, "cnn26", shapes)) + 10 == 3810


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gathered_nodes_are_elements_of_the_flattened_maps(memory_format):
    nodes = _nodes.draw_nodes(0, "cnn", SHAPES, 9)
    conv = torch.randn(2, 6, 5, 4).contiguous(memory_format=memory_format)
    flat = torch.randn(2, 7)
    gathered = nodes.gather({"flat": flat, "conv": conv})
    assert gathered.shape == (2, len(nodes)) == (2, 18)
    assert torch.equal(gathered[:, :9], conv.reshape(2, -1)[:, nodes.indices["conv"]])
    assert torch.equal(gathered[:, 9:], flat[:, nodes.indices["flat"]])


def test_maps_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="drawn for maps of shape"):
        _nodes.draw_nodes(0, "cnn", SHAPES, 2).take("flat", torch.zeros(1, 8))


def test_outputs_are_nodes_then_probabilities(model):
    images = torch.rand(2, 3, 8, 8)
    shapes = _nodes.map_shapes(model, ["0", "2"], images)
    assert shapes == {"0": (4, 6, 6), "2": (144,)}
    nodes = _nodes.draw_nodes(0, "small", shapes, 3)
    with _nodes.node_outputs(model, nodes) as outputs:
        gathered = outputs(images)
    # The first map is that of the convolution before the in-place activation.
    conv = model[0](images)
    assert torch.equal(gathered[:, :3], conv.reshape(2, -1)[:, nodes.indices["0"]])
    assert torch.equal(gathered[:, -5:], model(images).softmax(1))


def test_a_classifier_in_training_mode_is_refused(model):
    nodes = _nodes.draw_nodes(0, "small", {"2": (144,)}, 3)
    with (
        pytest.raises(ValueError, match="training mode"),
        _nodes.node_outputs(model.train(), nodes),
    ):
        pass


def test_an_unknown_layer_is_refused(model):
    with pytest.raises(BadInput, match=r"hidden\.taps: Sequential has no module '9'"):
        _nodes.map_shapes(model, ["9"], torch.rand(1, 3, 8, 8))
