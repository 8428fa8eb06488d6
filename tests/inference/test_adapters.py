"""Networks of others as this project takes them: conversions, their gradients, names."""

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
    """A small classifier whose outputs are what `give` makes of its logits."""

    def __init__(self, channels: int, give=lambda logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.give = give
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        return self.give(self.head(self.norm(self.conv(images)).relu().mean((2, 3))))


def images(channels: int = 1, side: int = 12) -> torch.Tensor:
    return torch.rand(3, channels, side, side, generator=torch.Generator().manual_seed(1))


def adapted(net, shape=(1, 12, 12), **conversion) -> AdaptedClassifier:
    return AdaptedClassifier(net, shape, **conversion).eval()


def assert_close(one, other):
    assert torch.allclose(one, other, atol=1e-6), (one - other).abs().max()


# ---------------------------------------------------------------- outputs

SHAPES = {
    "logits": lambda logits: logits,
    "a tuple": lambda logits: (logits, None),
    "an object": lambda logits: SimpleNamespace(loss=None, logits=logits),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_taken_out_of_what_the_network_gives(shape):
    expected = Net(1).eval()(images())
    network = adapted(Net(1, SHAPES[shape]))
    assert torch.equal(network(images()), expected)
    assert_close(fold(network)(images()), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_gives_probabilities_back(shape):
    def give(logits):
        return SHAPES[shape]((40 * logits).softmax(1))

    network = adapted(Net(1, give), outputs="probabilities")
    expected = (40 * Net(1).eval()(images())).softmax(1)
    assert_close(network(images()).softmax(1), expected)


def test_a_probability_of_0_stays_finite():
    network = adapted(Net(1, lambda logits: (1e6 * logits).softmax(1)), outputs="probabilities")
    logits = network(images())
    assert logits.isfinite().all() and logits.min() < -80
    assert ((logits.softmax(1) - 1).abs() < 1e-6).any(1).all()


def test_gradients_of_probabilities_are_those_of_logits():
    gradients = []
    for give, outputs in ((lambda x: x, "logits"), (lambda x: x.softmax(1), "probabilities")):
        given = images().requires_grad_()
        loss = functional.cross_entropy(
            adapted(Net(1, give), outputs=outputs)(given), torch.tensor([0, 1, 2])
        )
        gradients.append(torch.autograd.grad(loss, given)[0])
    assert gradients[0].abs().max() > 1e-4
    assert_close(*gradients)


# ---------------------------------------------------------------- inputs


def test_images_are_normalised_by_channel():
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    given = images(3)
    columns = torch.tensor([mean, std]).view(2, 1, 3, 1, 1)
    expected = Net(3).eval()((given - columns[0]) / columns[1])
    network = adapted(Net(3), (3, 12, 12), mean=mean, std=std)
    assert_close(network(given), expected)
    assert_close(fold(network)(given), expected)


def test_grey_images_become_colour_ones_and_are_resized():
    given = images(1)
    large = functional.interpolate(given, (20, 24), mode="bilinear").expand(-1, 3, -1, -1)
    network = adapted(Net(3), size=[20, 24], channels=3)
    assert_close(network(given), Net(3).eval()(large))
    assert input_shape((1, 12, 12), size=[20, 24], channels=3) == (3, 20, 24)


def test_colour_images_become_grey_ones():
    given = images(3)
    grey = (given * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert_close(adapted(Net(1), (3, 12, 12), channels=1)(given), Net(1).eval()(grey))


def test_the_gradient_passes_all_conversions():
    network = adapted(Net(3), size=20, channels=3, mean=0.4, std=0.2)
    given = images().requires_grad_()
    (gradient,) = torch.autograd.grad(network(given).square().sum(), given)
    assert gradient.shape == given.shape and (gradient.flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize(
    ("shape", "conversion", "words"),
    [
        ((1, 12, 12), {"mean": [0.1, 0.2]}, "^mean: 2 values for images of 1 channels"),
        ((4, 12, 12), {"channels": 3}, "^channels: 3 for images of 4"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(shape, conversion, words):
    with pytest.raises(BadInput, match=words):
        adapted(Net(1), shape, **conversion)


# ---------------------------------------------------------------- names


def test_weights_and_modules_keep_their_names():
    net = Net(1)
    network = adapted(copy.deepcopy(net), mean=0.4, std=0.2)
    assert network.state_dict().keys() == net.state_dict().keys()
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert dict(net.named_modules()).keys() <= dict(network.named_modules()).keys()
    assert network.get_submodule("conv") is network.conv
    other = adapted(Net(1), mean=0.4, std=0.2)
    nn.init.zeros_(other.head.weight)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images()), network(images()))


def test_a_copy_converts_as_well():
    network = adapted(Net(1), mean=0.4, std=0.2)
    twin = copy.deepcopy(network)
    assert type(twin) is AdaptedClassifier and torch.equal(twin(images()), network(images()))
    assert twin.conv is not network.conv


def test_a_stack_of_layers_is_read_behind_its_normalisation():
    """Changes of an image are sent through it as through this project's own networks."""
    layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 5))
    network = adapted(layers, mean=0.4, std=0.2)
    stack = read_stack(network, images()[:1], ["0", "3"])
    *_, last = stack.maps(images().permute(0, 2, 3, 1))
    assert_close(last.flatten(1), network(images()))


# ---------------------------------------------------------------- denoisers


class Identity(nn.Module):
    def __init__(self, give=lambda images: images):
        super().__init__()
        self.give = give

    def forward(self, images):
        self.inputs = images
        return self.give(images)


def test_a_denoiser_gives_back_images_as_it_was_given_them():
    network = AdaptedDenoiser(Identity(), (1, 12, 12), mean=0.4, std=0.2, size=24, channels=3)
    given = images()
    denoised = network.eval()(given)
    assert network.inputs.shape == (3, 3, 24, 24) and network.inputs.min() < 0
    assert denoised.shape == given.shape
    smooth = functional.interpolate(
        functional.interpolate(given, (24, 24), mode="bilinear"), (12, 12), mode="bilinear"
    )
    assert_close(denoised, smooth)


def test_a_converted_denoiser_stays_in_the_range_of_pixels_when_it_is_not_trained():
    network = AdaptedDenoiser(Identity(lambda x: (3 * x, "codes")), (1, 12, 12), std=0.5)
    assert network.eval()(images()).max() == 1 and network.train()(images()).max() > 1
    plain = AdaptedDenoiser(Identity(lambda x: 3 * x), (1, 12, 12)).eval()
    assert torch.equal(plain(images()), 3 * images())


def test_a_denoiser_of_grey_images_gives_no_colours():
    with pytest.raises(BadInput, match="^channels: a denoiser of 1 cannot give back images of 3"):
        AdaptedDenoiser(Identity(), (3, 12, 12), channels=1)
