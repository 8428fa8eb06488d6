"""U-Nets: sizes, ways, ranges, and that they learn."""

import pytest
import torch
from torch import nn

from scripts.advdenoise.denoisers.unet import hgd
from scripts.advdenoise.errors import BadInput


def convolution(last: int, width: int) -> int:
    return 9 * last * width + 2 * width


def test_hgd_has_two_convolutions_a_scale_and_way():
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


def test_hgd_learns_to_take_noise_away():
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
def test_hgd_refuses_sides_that_halving_loses(shape):
    with pytest.raises(BadInput, match="3 scales take sides that 4 divides"):
        hgd(shape)
