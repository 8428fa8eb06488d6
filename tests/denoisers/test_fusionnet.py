"""FusionNet: size, maps, skips, range, training."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.denoisers.fusionnet import fusionnet
from advdenoise.errors import BadInput


@pytest.mark.parametrize(("width", "size"), [(16, 4_917_843), (32, 19_646_115), (64, 78_533_955)])
def test_known_sizes(width, size):
    with torch.device("meta"):
        network = fusionnet((3, 64, 64), width=width)
    assert sum(weight.numel() for weight in network.parameters()) == size


def test_equals_the_description():
    """Layers are applied in the order of construction; batch norms are in eval mode."""
    torch.manual_seed(0)
    network = fusionnet((3, 16, 8), width=4, poolings=2)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.bias, -0.1, 0.1)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    network.eval()
    images = torch.rand(2, 3, 16, 8)
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
    down, upsample, up = (
        iter([m for m in part.modules() if isinstance(m, kinds)])
        for part in (network.down, network.doubled, network.up)
    )

    def with_norm(layers, maps):
        maps = next(layers)(maps)
        return next(layers)(maps)

    def unit(layers, maps, slope):
        first = functional.leaky_relu(with_norm(layers, maps), slope)
        inner = functional.leaky_relu(with_norm(layers, first), slope)
        inner = functional.leaky_relu(with_norm(layers, inner), slope)
        inner = with_norm(layers, inner)
        return functional.leaky_relu(with_norm(layers, first + inner), slope)

    full = unit(down, 2 * images - 1, 0.2)
    half = unit(down, functional.max_pool2d(full, 2), 0.2)
    maps = unit(down, functional.max_pool2d(half, 2), 0.2)
    maps = unit(up, (half + with_norm(upsample, maps).relu()) / 2, 0.0)
    maps = unit(up, (full + with_norm(upsample, maps).relu()) / 2, 0.0)
    expected = (torch.tanh(network.last(maps)) + 1) / 2
    assert all(next(layers, None) is None for layers in (down, upsample, up))
    assert torch.allclose(network(images), expected, atol=1e-6)
    assert full.shape[1:] == (4, 16, 8) and network.up[0].first[0].in_channels == 8


def test_the_lowest_scale_is_a_sixteenth():
    network, shapes = fusionnet((3, 64, 64), width=2).eval(), []
    network.down[-1].register_forward_hook(lambda *args: shapes.append(args[2].shape))
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)
    assert shapes == [(1, 32, 4, 4)]


def test_learns_to_remove_noise():
    torch.manual_seed(0)
    network = fusionnet((1, 8, 8), width=6, poolings=1).train()
    images = (torch.rand(32, 1, 1, 1) > 0.5).float().expand(32, 1, 8, 8)
    noisy = (images + 0.3 * torch.randn(images.shape)).clamp(0, 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = functional.mse_loss(network(noisy), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_refuses_other_sides():
    with pytest.raises(BadInput, match="multiples of 16 for 4 halvings, got 64x40"):
        fusionnet((3, 64, 40))
