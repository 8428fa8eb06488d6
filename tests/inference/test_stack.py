"""The conversion of networks to stacks, and why others cannot be converted."""

import pytest
import torch
from torch import nn

from advdenoise.classifiers.convnets import elu_cnn, lenet
from advdenoise.inference import stack
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.inference.steps import Convolution, Dense, MaxPool, Pointwise

IMAGE = torch.zeros(1, 3, 16, 16)


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4 * 14 * 14, 2)
        self.function = function

    def forward(self, images):
        return self.function(self, self.first(images))


def test_pools_are_moved_and_batch_norms_become_part_of_weights():
    layers = stack.read_stack(elu_cnn((3, 16, 16), 10, width=2).eval(), IMAGE)
    block = [Convolution, Pointwise, Convolution, MaxPool, Pointwise]
    assert [type(step) for step in layers.steps] == [*block, *block, *block, Dense]
    assert layers.shapes[-1] == (10, 1, 1)
    # Normalisation, and the batch norms after the activations.
    assert [len(step.affines) for step in layers.steps if step.linear] == [1] * 7


def test_a_pool_is_not_moved_before_a_decreasing_function():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 2)
    ).eval()
    kinds = [type(step) for step in stack.read_stack(network, IMAGE).steps]
    assert kinds == [Convolution, MaxPool, Dense]
    network[1].weight.data[2] = -0.1
    kinds = [type(step) for step in stack.read_stack(network, IMAGE).steps]
    assert kinds == [Convolution, Pointwise, MaxPool, Dense]


def test_every_map_has_a_source():
    network = lenet((3, 16, 16), 10).eval()
    layers = stack.read_stack(network, IMAGE)
    images = torch.rand(2, 3, 16, 16)
    maps = list(layers.maps(images.permute(0, 2, 3, 1).contiguous()))
    values = network.normalise(images)
    for i, layer in enumerate(network.layers):
        values = layer(values)
        source = layers.sources[f"layers.{i}"]
        result = maps[source.index].clone()
        for function in source.deferred:
            result = function(result)
        assert source.shape == result.permute(0, 3, 1, 2).shape[1:]
        torch.testing.assert_close(result.permute(0, 3, 1, 2).flatten(1), values.flatten(1))


def test_torch_flatten_is_supported():
    layers = stack.read_stack(Functional(lambda n, maps: n.last(torch.flatten(maps, 1))), IMAGE)
    assert [type(step) for step in layers.steps] == [Convolution, Dense]


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Functional(lambda n, maps: n.last((maps + maps).flatten(1))), "add is not a module"),
        (Functional(lambda n, maps: n.last(maps.flatten(1))), "flatten is not a module"),
        (Functional(lambda n, maps: n.last(maps) if maps.sum() > 0 else maps), "cannot be traced"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), "padded with zeros"),
        (nn.Sequential(nn.Conv2d(3, 4, 4, padding="same")), "one end more than the other"),
        (nn.Sequential(nn.MaxPool2d(3, ceil_mode=True)), "ceil_mode"),
        (nn.Sequential(nn.MaxPool2d(3, return_indices=True)), "returns indices"),
        (nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), "size of its windows"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(5)), "unequal size"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(768)), "each element of a flattened map"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(256, 2)), "does not flatten all axes"),
        (nn.Sequential(nn.Linear(16, 2)), "not flattened"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "one value for each class"),
        (nn.Sequential(nn.LocalResponseNorm(2)), r"0 \(LocalResponseNorm\) is not a supported"),
        (Normalised(Normalise(3, size=8), nn.Flatten()), r"\(Normalise\) is not a supported layer"),
    ],
)
def test_other_networks_raise_with_a_reason(network, reason):
    with pytest.raises(stack.NotSequential, match=reason):
        stack.read_stack(network.eval(), IMAGE)


def test_an_unknown_module_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 2)).eval()
    with pytest.raises(stack.NotSequential, match="7 is not part of the sequence"):
        stack.read_stack(network, IMAGE, ["1", "7"])
