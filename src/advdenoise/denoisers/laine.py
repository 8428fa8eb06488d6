"""The U-Net of Laine et al. 2019: float [N,C,H,W] in [0,1] -> the same shape in [0,1]."""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.denoisers._sides import check_sides
from advdenoise.ranges import Interval, Size

Shape = tuple[int, int, int]
_SLOPE = 0.1  # of the leaky ReLUs


def unet(
    shape: Shape, *, width: Size = 48, poolings: Annotated[int, Interval(ge=1, le=10)] = 5
) -> nn.Module:
    """The network without blind spot of "High-quality self-supervised deep image denoising".

    3x3 convolutions of `width` maps: two at full size, one at each size below, halved by max
    pooling. On the way back, at each size twice as large by nearest neighbours, the maps that were
    pooled to the size below, at full size the image, are put beside, and two 3x3 convolutions of
    2 `width` maps follow; three 1x1 convolutions end it. All but the last are followed by leaky
    ReLU of slope 0.1; initial weights are He's. 1,102,371 parameters for colour images. In training
    mode the output is not clamped to [0,1]: a clamped element has no gradient.

    Raises BadInput for sides that halving does not bring back: multiples of 32 with 5 poolings.
    """
    check_sides("laine.unet", shape, poolings)
    network = _UNet(shape[0], width, poolings)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=_SLOPE)
            nn.init.zeros_(module.bias)
    return network


class _UNet(nn.Module):
    def __init__(self, depth: int, width: int, poolings: int):
        super().__init__()
        self.first = _convolution(depth, width)
        self.down = nn.ModuleList(_convolution(width, width) for _ in range(poolings))
        self.bottom = _convolution(width, width)
        wide = 2 * width
        below = [width] + [wide] * (poolings - 1)
        beside = [width] * (poolings - 1) + [depth]
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(low + skip, wide), _convolution(wide, wide))
            for low, skip in zip(below, beside, strict=True)
        )
        self.last = nn.Sequential(
            _convolution(wide, wide, 1), _convolution(wide, wide, 1), nn.Conv2d(wide, depth, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        skips, maps = [images], self.first(images)
        for layer in self.down:
            maps = functional.max_pool2d(layer(maps), 2)
            skips.append(maps)
        skips.pop()
        maps = self.bottom(maps)
        for block in self.up:
            maps = functional.interpolate(maps, scale_factor=2.0)
            maps = block(torch.cat([maps, skips.pop()], dim=1))
        denoised = self.last(maps)
        return denoised if self.training else denoised.clamp(0, 1)


def _convolution(last: int, width: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(last, width, kernel, padding=kernel // 2), nn.LeakyReLU(_SLOPE))
