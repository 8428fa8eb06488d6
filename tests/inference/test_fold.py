"""The rewriting for inference keeps outputs and input gradients."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advdenoise.classifiers.convnets import elu_cnn, lenet
from advdenoise.classifiers.resnet import cifar_resnet18
from advdenoise.inference.elu import FastELU, ShiftedELU, use_fast_elu
from advdenoise.inference.fold import fold

SMALL = [
    (lenet, (1, 28, 28), {"channels": [4, 6], "hidden": 20}),
    (lenet, (3, 17, 20), {"channels": [4, 6], "hidden": 20, "mean": 0.4, "std": 0.2}),
    (elu_cnn, (3, 32, 32), {"width": 4}),
    (elu_cnn, (1, 28, 28), {"width": 4, "mean": 0.0, "std": 1.0}),
    (elu_cnn, (2, 17, 9), {"width": 4, "mean": [0.1, 0.6], "std": [0.2, 0.7]}),
    (cifar_resnet18, (3, 32, 32), {"width": 4}),
    (cifar_resnet18, (1, 15, 21), {"width": 4}),
]


def with_statistics(network: nn.Module, low: float = 0.3) -> nn.Module:
    """The network with random statistics in its batch norms, with scales from `low` to 2."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.3, 2)
            if norm.affine:
                nn.init.uniform_(norm.weight, low, 2)
                nn.init.uniform_(norm.bias, -1, 1)
    return network.eval()


def outputs_and_gradient(network: nn.Module, images: torch.Tensor):
    images = images.clone().requires_grad_()
    outputs = network(images.clone())  # Some first layers work in place.
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return outputs.detach(), torch.autograd.grad((outputs * weights).sum(), images)[0]


def assert_equal(network: nn.Module, shape, folded: nn.Module | None = None) -> nn.Module:
    """Check outputs and gradients in float64 to 1e-10; return the folded network."""
    network = network.double()
    folded = fold(network) if folded is None else folded
    images = torch.rand(3, *shape, dtype=torch.float64)
    expected, actual = (outputs_and_gradient(n, images) for n in (network, folded))
    for value, reference in zip(expected, actual, strict=True):
        assert (value - reference).abs().max() <= 1e-10 * max(1, value.abs().max())
    return folded


def count(network: nn.Module, *kinds: type) -> int:
    return sum(isinstance(module, kinds) for module in network.modules())


@pytest.mark.parametrize(("build", "shape", "settings"), SMALL)
def test_exact(build, shape, settings):
    torch.manual_seed(1)
    network = with_statistics(build(shape, 6, **settings))
    folded = assert_equal(network, shape)
    assert count(network, nn.BatchNorm2d) == 0 or count(folded, nn.BatchNorm2d) == 0
    assert count(folded, nn.Dropout) == 0


def test_float32_within_rounding():
    torch.manual_seed(2)
    network = with_statistics(elu_cnn((3, 32, 32), 10, width=8), low=0.8)
    images = torch.rand(8, 3, 32, 32)
    expected, actual = (outputs_and_gradient(n, images) for n in (network, fold(network)))
    assert (expected[0] - actual[0]).abs().max() < 1e-5 * max(1, expected[0].abs().max())
    difference = (expected[1] - actual[1]).abs() / expected[1].abs().max()
    # If two values under a pool are equal up to rounding, the gradient may go to either.
    assert difference.quantile(0.99) < 1e-5


def test_the_result_is_frozen_and_the_network_is_not_modified():
    network = with_statistics(elu_cnn((3, 16, 16), 4, width=4)).train()
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    assert network.training and all(w.requires_grad for w in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in folded.modules())
    assert not any(weight.requires_grad for weight in folded.parameters())
    folded(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_norm_with_a_scale_that_is_not_positive_is_kept():
    torch.manual_seed(3)
    network = with_statistics(elu_cnn((3, 16, 16), 4, width=4))
    with torch.no_grad():
        network.layers[5].weight[1] = -0.4
        network.layers[18].weight[0] = 0
    folded = assert_equal(network, (3, 16, 16))
    assert count(folded, nn.BatchNorm2d) == 2


def test_several_backward_passes_through_one_graph():
    torch.manual_seed(4)
    network = with_statistics(elu_cnn((1, 16, 16), 4, width=4)).double()
    images = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    gradients = []
    for model in (network, fold(network)):
        leaf = images.clone().requires_grad_()
        logits = model(leaf)
        gradients.append(
            [torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)[0] for k in range(4)]
        )
    for value, reference in zip(*gradients, strict=True):
        assert torch.allclose(value, reference, atol=1e-12)


def test_images_are_not_modified():
    network = fold(with_statistics(elu_cnn((1, 16, 16), 4, width=4, mean=0.0, std=1.0)))
    images = torch.rand(2, 1, 16, 16)
    before = images.clone()
    network(images)
    assert torch.equal(images, before)


class Branches(nn.Module):
    """A norm and an activation with two readers, and an activation whose input is read again."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.elu = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ELU()
        self.one, self.two = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()

    def forward(self, images):
        maps = self.norm(self.elu(self.conv(images)))
        value = self.one(maps)
        return self.pool(self.relu(value)).flatten(1) + self.two(
            self.pool(maps + value.mean())
        ).flatten(1)


def test_maps_with_several_readers():
    torch.manual_seed(5)
    assert_equal(with_statistics(Branches()), (2, 8, 8))


class Shared(nn.Module):
    """One convolution after two norms of different scale."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()
        self.first, self.second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, images):
        return self.second(self.conv(self.relu(self.first(self.conv(images)))))


def test_a_shared_layer_is_folded_in_both_places():
    torch.manual_seed(6)
    folded = assert_equal(with_statistics(Shared()), (2, 6, 6))
    assert count(folded, nn.BatchNorm2d) == 0


def test_networks_that_cannot_be_folded():
    class Undecided(nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    class Grouped(nn.Sequential):
        pass

    assert fold(Undecided())(torch.ones(1, 1, 2, 2)).sum() == 4
    nothing = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten())
    assert type(fold(nothing)) is nn.Sequential
    torch.manual_seed(7)
    grouped = Grouped(nn.ELU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten())
    assert count(assert_equal(with_statistics(grouped), (4, 5, 5)), nn.BatchNorm2d) == 1


LAYERS = {
    "valid": lambda: nn.Conv2d(3, 3, 3),
    "padded": lambda: nn.Conv2d(3, 3, 3, padding=1),
    "same": lambda: nn.Conv2d(3, 3, 3, padding="same", bias=False),
    "strided": lambda: nn.Conv2d(3, 3, 3, stride=2, padding=2, dilation=2),
    "circular": lambda: nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
    "grouped": lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3),
    "elu": nn.ELU,
    "elu2": lambda: nn.ELU(alpha=2.0),
    "relu": nn.ReLU,
    "relu_": lambda: nn.ReLU(inplace=True),
    "norm": lambda: nn.BatchNorm2d(3),
    "plain norm": lambda: nn.BatchNorm2d(3, affine=False),
    "pool": lambda: nn.MaxPool2d(2),
    "overlapping pool": lambda: nn.MaxPool2d(3, stride=1, padding=1),
    "average": lambda: nn.AvgPool2d(2, padding=1),
    "dropout": lambda: nn.Dropout2d(0.5),
    "tanh": nn.Tanh,
}


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(LAYERS)), min_size=2, max_size=7),
    dense=st.booleans(),
    low=st.sampled_from([0.3, -1.0]),
    seed=st.integers(0, 100),
)
def test_any_sequence(names, dense, low, seed):
    torch.manual_seed(seed)
    shape = (3, 13, 14)
    layers = nn.Sequential(*(LAYERS[name]() for name in names))
    try:
        size = outputs_and_gradient(layers.eval(), torch.rand(1, *shape))[0][0].numel()
    except RuntimeError:
        return  # The images are too small, or a layer overwrites a tensor that another one needs.
    if dense:
        layers.extend([nn.Flatten(), nn.Linear(size, 4)])
    assert_equal(with_statistics(layers, low), shape)


def test_fast_elu_equals_elu():
    maps = torch.cat([torch.linspace(-120, 50, 4001), torch.tensor([0.0, -0.0, -1e-9])])
    outputs = []
    for layer in (nn.ELU(), FastELU()):
        leaf = maps.clone().requires_grad_()
        result = layer(leaf)
        outputs.append((result.detach(), torch.autograd.grad(result.sum(), leaf)[0]))
    for value, reference in zip(*outputs, strict=True):
        assert torch.allclose(value, reference, rtol=1e-6, atol=1e-6)
    assert FastELU()(torch.tensor([float("nan")])).isnan()


def test_a_second_derivative_of_the_fast_elu_is_refused():
    maps = torch.randn(8, requires_grad=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(FastELU()(maps).square().sum(), maps, create_graph=True)


def test_shifted_elu():
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    shift = torch.randn(3, 1, 1, dtype=torch.float64)
    expected = nn.functional.elu(maps) + shift
    assert torch.allclose(ShiftedELU(shift)(maps), expected, atol=1e-15)


def test_use_fast_elu_replaces_elus_only():
    network = nn.Sequential(nn.ELU(), nn.Sequential(nn.ELU(alpha=2.0), nn.ELU()), nn.ReLU()).eval()
    fast = use_fast_elu(copy.deepcopy(network))
    kinds = [type(module) for module in fast.modules() if not list(module.children())]
    assert kinds == [FastELU, nn.ELU, FastELU, nn.ReLU]
    assert not any(module.training for module in fast.modules())
    maps = torch.randn(3, 5, dtype=torch.float64)
    assert torch.allclose(network(maps), fast(maps), atol=1e-14)
