"""Adapters of other networks: conversions, their gradients, names."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.inference.adapters import AdaptedClassifier, AdaptedDenoiser, input_shape
from advdenoise.inference.fold import fold
from advdenoise.inference.stack import read_stack


class Net(nn.Module):
    """A small classifier that returns `convert(logits)`."""

    def __init__(self, channels: int, convert=lambda logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.convert = convert
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        return self.convert(self.head(self.norm(self.conv(images)).relu().mean((2, 3))))


def images(channels: int = 1, side: int = 12) -> torch.Tensor:
    return torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(1))


def adapt(net, shape=(1, 12, 12), **conversion) -> AdaptedClassifier:
    return AdaptedClassifier(net, shape, **conversion).eval()


def assert_close(first, second):
    assert torch.allclose(first, second, atol=1e-6), (first - second).abs().max()


# ---------------------------------------------------------------- outputs

OUTPUTS = {
    "logits": lambda logits: logits,
    "a tuple": lambda logits: (logits, None),
    "an object": lambda logits: SimpleNamespace(loss=None, logits=logits),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_logits_are_extracted_from_the_outputs(kind):
    expected = Net(1).eval()(images())
    network = adapt(Net(1, OUTPUTS[kind]))
    assert torch.equal(network(images()), expected)
    assert_close(fold(network)(images()), expected)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_softmax_restores_probabilities(kind):
    def convert(logits):
        return OUTPUTS[kind]((40 * logits).softmax(1))

    network = adapt(Net(1, convert), outputs="probabilities")
    expected = (40 * Net(1).eval()(images())).softmax(1)
    assert_close(network(images()).softmax(1), expected)


def test_logits_of_a_probability_of_0_are_finite():
    network = adapt(Net(1, lambda logits: (1e6 * logits).softmax(1)), outputs="probabilities")
    logits = network(images())
    assert logits.isfinite().all() and logits.min() < -80
    assert ((logits.softmax(1) - 1).abs() < 1e-6).any(1).all()


def test_gradients_of_probabilities_equal_those_of_logits():
    gradients = []
    for convert, outputs in ((lambda x: x, "logits"), (lambda x: x.softmax(1), "probabilities")):
        inputs = images().requires_grad_()
        loss = functional.cross_entropy(
            adapt(Net(1, convert), outputs=outputs)(inputs), torch.tensor([0, 1, 2])
        )
        gradients.append(torch.autograd.grad(loss, inputs)[0])
    assert gradients[0].abs().max() > 1e-4
    assert_close(*gradients)


# ---------------------------------------------------------------- inputs


def test_images_are_normalised_by_channel():
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    inputs = images(3)
    columns = torch.tensor([mean, std]).view(2, 1, 3, 1, 1)
    expected = Net(3).eval()((inputs - columns[0]) / columns[1])
    network = adapt(Net(3), (3, 12, 12), mean=mean, std=std)
    assert_close(network(inputs), expected)
    assert_close(fold(network)(inputs), expected)


def test_grey_images_are_converted_to_colour_and_resized():
    inputs = images(1)
    large = functional.interpolate(inputs, (20, 24), mode="bilinear").expand(-1, 3, -1, -1)
    network = adapt(Net(3), size=[20, 24], channels=3)
    assert_close(network(inputs), Net(3).eval()(large))
    assert input_shape((1, 12, 12), size=[20, 24], channels=3) == (3, 20, 24)


def test_colour_images_are_converted_to_grey():
    inputs = images(3)
    grey = (inputs * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert_close(adapt(Net(1), (3, 12, 12), channels=1)(inputs), Net(1).eval()(grey))


def test_conversions_are_differentiable():
    network = adapt(Net(3), size=20, channels=3, mean=0.4, std=0.2)
    inputs = images().requires_grad_()
    (gradient,) = torch.autograd.grad(network(inputs).square().sum(), inputs)
    assert gradient.shape == inputs.shape and (gradient.flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize(
    ("shape", "conversion", "message"),
    [
        ((1, 12, 12), {"mean": [0.1, 0.2]}, "^mean: must be a number or 1 numbers, .* got 2"),
        ((4, 12, 12), {"channels": 3}, "^channels: must be 4, those of the images, got 3"),
    ],
)
def test_invalid_conversions(shape, conversion, message):
    with pytest.raises(BadInput, match=message):
        adapt(Net(1), shape, **conversion)


# ---------------------------------------------------------------- names


def test_weights_and_modules_keep_their_names():
    net = Net(1)
    network = adapt(copy.deepcopy(net), mean=0.4, std=0.2)
    assert network.state_dict().keys() == net.state_dict().keys()
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert dict(net.named_modules()).keys() <= dict(network.named_modules()).keys()
    assert network.get_submodule("conv") is network.conv
    other = adapt(Net(1), mean=0.4, std=0.2)
    nn.init.zeros_(other.head.weight)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images()), network(images()))


def test_copies_are_adapters():
    network = adapt(Net(1), mean=0.4, std=0.2)
    other = copy.deepcopy(network)
    assert type(other) is AdaptedClassifier and torch.equal(other(images()), network(images()))
    assert other.conv is not network.conv


def test_adapted_sequential_networks_are_read_as_stacks():
    """Leave-one-out attributions compute only changed windows, as for other networks."""
    layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 5))
    network = adapt(layers, mean=0.4, std=0.2)
    stack = read_stack(network, images()[:1], ["0", "3"])
    *_, last = stack.maps(images().permute(0, 2, 3, 1))
    assert_close(last.flatten(1), network(images()))


# ---------------------------------------------------------------- denoisers


class Identity(nn.Module):
    def __init__(self, convert=lambda images: images):
        super().__init__()
        self.convert = convert

    def forward(self, images):
        self.inputs = images
        return self.convert(images)


def test_denoisers_return_images_in_the_original_units_and_shape():
    network = AdaptedDenoiser(Identity(), (1, 12, 12), mean=0.4, std=0.2, size=24, channels=3)
    inputs = images()
    denoised = network.eval()(inputs)
    assert network.inputs.shape == (3, 3, 24, 24) and network.inputs.min() < 0
    assert denoised.shape == inputs.shape
    smooth = functional.interpolate(
        functional.interpolate(inputs, (24, 24), mode="bilinear"), (12, 12), mode="bilinear"
    )
    assert_close(denoised, smooth)


def test_adapted_denoisers_clamp_images_in_eval_mode():
    network = AdaptedDenoiser(Identity(lambda x: (3 * x, "codes")), (1, 12, 12), std=0.5)
    assert network.eval()(images()).max() == 1 and network.train()(images()).max() > 1
    plain = AdaptedDenoiser(Identity(lambda x: 3 * x), (1, 12, 12)).eval()
    assert torch.equal(plain(images()), 3 * images())


def test_a_denoiser_of_grey_images_cannot_return_colour_images():
    with pytest.raises(BadInput, match="^channels: a denoiser of 1 cannot return images of 3"):
        AdaptedDenoiser(Identity(), (3, 12, 12), channels=1)
