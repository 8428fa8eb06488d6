"""The U-Net of Laine et al.: size, maps, skips, range."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.denoisers.laine import unet
from advdenoise.errors import BadInput


def test_published_size():
    assert sum(weight.numel() for weight in unet((3, 256, 256)).parameters()) == 1_102_371


def test_equals_the_papers_table():
    """Layers are applied in the order of construction."""
    torch.manual_seed(0)
    network = unet((3, 64, 32), width=4).eval()
    images = torch.rand(2, 3, 64, 32)
    layers = iter([m for m in network.modules() if isinstance(m, nn.Conv2d)])

    def convolution(maps, slope=0.1):
        layer = next(layers)
        size = layer.kernel_size[0] // 2
        return functional.leaky_relu(
            functional.conv2d(maps, layer.weight, layer.bias, padding=size), slope
        )

    pooled = [images]
    maps = convolution(images)
    for _ in range(5):
        maps = functional.max_pool2d(convolution(maps), 2)
        pooled.append(maps)
    maps = convolution(maps)
    for number in (4, 3, 2, 1, 0):
        maps = maps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        maps = convolution(convolution(torch.cat([maps, pooled[number]], dim=1)))
    expected = convolution(convolution(convolution(maps)), slope=1.0)
    assert next(layers, None) is None
    assert torch.allclose(network.train()(images), expected, atol=1e-6)
    assert torch.allclose(network.eval()(images), expected.clamp(0, 1), atol=1e-6)


def test_weights_have_he_initialisation():
    torch.manual_seed(0)
    for layer in unet((3, 32, 32)).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5_000:
            inputs = layer.weight[0].numel()
            expected = (2 / (1 + 0.1**2) / inputs) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
            assert not layer.bias.any()


def test_refuses_other_sides():
    with pytest.raises(BadInput, match="multiples of 32 for 5 halvings, got 28x32"):
        unet((1, 28, 32))
    assert unet((1, 28, 32), width=2, poolings=2)(torch.rand(1, 1, 28, 32)).shape[2:] == (28, 32)
