"""Generator and critic of Defense-GAN: sizes, layers, errors."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.denoisers.gan import wgan
from advdenoise.errors import BadInput
from advdenoise.io.weights import read_weights, write_weights

GREY = (1, 28, 28)


def weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_sizes_of_the_authors_networks():
    network = wgan(GREY)
    assert weights(network.generator) == 1_554_177 and weights(network.critic) == 1_030_145
    assert network.code_shape == (128, 1, 1)
    assert network(torch.randn(2, 128, 1, 1)).shape == (2, *GREY)
    assert network.critic(torch.rand(2, *GREY)).shape == (2, 1)


def test_priors_of_training():
    """The authors' program trains on N(0, 1), though it starts from N(0, 1 / latent)."""
    start = 1 / 128**0.5
    for settings, deviation in (
        ({}, 1.0),
        ({"prior": "normal"}, 1.0),
        ({"prior": "scaled"}, start),
    ):
        network = wgan(GREY, width=1, **settings)
        assert network.code_std == pytest.approx(deviation)
    with pytest.raises(BadInput, match="must be one of normal, scaled, got 'uniform'"):
        wgan(GREY, prior="uniform")


def test_the_generator_is_a_dense_layer_and_three_transposed_convolutions():
    torch.manual_seed(0)
    network = wgan(GREY, latent=5, width=3).double()
    codes = torch.randn(4, 5, 1, 1, dtype=torch.float64)
    parts = network.generator
    maps = codes.view(4, 5) @ parts["dense"].weight.T + parts["dense"].bias
    maps = maps.clamp_min(0).view(4, 12, 4, 4)
    for name, side in (("first", 7), ("second", 14), ("last", 28)):
        # A transposed convolution of stride 2 adds a 5x5 kernel for each element.
        upsampled = maps.new_zeros(4, parts[name].out_channels, 60, 60)
        for row in range(maps.shape[2]):
            for column in range(maps.shape[3]):
                spread = torch.einsum("ni,ioab->noab", maps[..., row, column], parts[name].weight)
                upsampled[..., 2 * row : 2 * row + 5, 2 * column : 2 * column + 5] += spread
        maps = upsampled[..., 2 : 2 + side, 2 : 2 + side] + parts[name].bias.view(1, -1, 1, 1)
        maps = maps.clamp_min(0) if name != "last" else torch.sigmoid(maps)
    assert torch.allclose(network(codes), maps, atol=1e-12)


def test_the_critic_is_three_convolutions_and_a_dense_layer():
    network = wgan(GREY, latent=5, width=3).critic
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    maps, images = None, torch.rand(3, *GREY)
    for layer in convolutions:
        maps = functional.conv2d(
            images if maps is None else maps, layer.weight, layer.bias, stride=2, padding=2
        )
        maps = torch.where(maps > 0, maps, 0.2 * maps)
    assert maps.shape == (3, 12, 4, 4)
    assert torch.allclose(network(images), network[-1](maps.flatten(1)), atol=1e-6)


def test_weights_files_contain_the_critic(tmp_path):
    network = wgan(GREY, latent=5, width=2)
    write_weights(tmp_path / "w.safetensors", network.state_dict(), {"settings": {}})
    other = wgan(GREY, latent=5, width=2)
    other.load_state_dict(read_weights(tmp_path / "w.safetensors")[0])
    codes, images = torch.randn(3, 5, 1, 1), torch.rand(3, *GREY)
    assert torch.equal(other(codes), network(codes))
    assert torch.equal(other.critic(images), network.critic(images))


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 32, 32), (1, 28, 29)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(BadInput, match=r"gan.wgan: images must be 1x28x28 .*, got \d"):
        wgan(shape)
