"""U-Nets: sizes, maps, ranges, training."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.denoisers.unet import classic, hgd
from advdenoise.errors import BadInput


def convolution(c_in: int, c_out: int) -> int:
    return 9 * c_in * c_out + 2 * c_out


def test_hgd_has_two_convolutions_per_scale_in_encoder_and_decoder():
    expected = (
        convolution(1, 32)
        + convolution(32, 32)
        + convolution(32, 64)
        + convolution(64, 64)
        + convolution(64, 128)
        + convolution(128, 128)
        + convolution(128 + 64, 64)
        + convolution(64, 64)
        + convolution(64 + 32, 32)
        + convolution(32, 32)
        + (32 + 1)
    )
    assert sum(p.numel() for p in hgd((1, 28, 28)).parameters()) == expected == 471_617


def test_hgd_halves_and_doubles():
    network, shapes = hgd((3, 28, 20), widths=[2, 3, 4], convolutions=1), []
    for block in (*network.down, *network.up):
        block.register_forward_hook(lambda m, i, out: shapes.append(tuple(out.shape[1:])))
    assert network(torch.rand(2, 3, 28, 20)).shape == (2, 3, 28, 20)
    assert shapes == [(2, 28, 20), (3, 14, 10), (4, 7, 5), (3, 14, 10), (2, 28, 20)]


def test_hgd_adds_the_image_and_clamps_in_eval_mode_only():
    network = hgd((1, 8, 8), widths=[2, 3])
    nn.init.zeros_(network.last.weight)
    nn.init.constant_(network.last.bias, 0.5)
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(network.train()(images), images + 0.5)
    assert torch.equal(network.eval()(images), (images + 0.5).clamp(0, 1))


def test_hgd_learns_to_remove_noise():
    torch.manual_seed(0)
    network = hgd((1, 8, 8), widths=[8, 16]).train()
    images = (torch.rand(32, 1, 1, 1) > 0.5).float().expand(32, 1, 8, 8)
    noisy = (images + 0.3 * torch.randn(images.shape)).clamp(0, 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(network(noisy), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("shape", [(1, 30, 28), (1, 28, 26), (3, 33, 33)])
def test_hgd_refuses_other_sides(shape):
    with pytest.raises(BadInput, match="multiples of 4 for 2 halvings"):
        hgd(shape)


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_classic_has_its_size():
    with torch.device("meta"):
        assert parameters(classic((3, 64, 64))) == 31_037_763
        assert parameters(classic((3, 64, 64), batch_norm=False)) == 31_031_875


def test_classic_equals_the_description():
    """Without batch norm; layers are applied in the order of construction."""
    torch.manual_seed(0)
    network = classic((3, 16, 8), width=4, poolings=2, batch_norm=False).eval()
    images = torch.rand(2, 3, 16, 8)
    layers = iter([m for m in network.modules() if isinstance(m, nn.Conv2d)])
    upsampling = iter([m for m in network.modules() if isinstance(m, nn.ConvTranspose2d)])

    def twice(maps):
        for _ in range(2):
            maps = next(layers)(maps).relu()
        return maps

    full = twice(2 * images - 1)
    half = twice(functional.max_pool2d(full, 2))
    quarter = twice(functional.max_pool2d(half, 2))
    maps = twice(torch.cat([half, next(upsampling)(quarter)], dim=1))
    maps = twice(torch.cat([full, next(upsampling)(maps)], dim=1))
    expected = (next(layers)(maps) + 1) / 2
    assert next(layers, None) is None and next(upsampling, None) is None
    assert torch.allclose(network.train()(images), expected, atol=1e-6)
    assert torch.allclose(network.eval()(images), expected.clamp(0, 1), atol=1e-6)


def test_classic_has_a_norm_after_each_convolution():
    network = classic((1, 16, 16), width=2, poolings=1)
    kinds = [type(m) for block in network.down for m in block]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 4


def test_classic_refuses_other_sides():
    with pytest.raises(BadInput, match="multiples of 16 for 4 halvings, got 28x32"):
        classic((1, 28, 32))
