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

    The encoder has 3x3 convolutions of `width` maps, two at full resolution and one at each scale
    below, with max-pooling between the scales. In the decoder, maps are doubled in size (nearest
    neighbours) and concatenated with the encoder's pooled maps of that size, at full resolution
    with the image; two 3x3 convolutions of 2 `width` maps follow at each scale, and three 1x1
    convolutions at the end. Leaky ReLU of slope 0.1 follows all but the last. Weights are
    initialised as in He et al. 2015. 1,102,371 parameters for colour images. In training mode the
    output is not clamped to [0,1], since clamped elements have no gradient.

    Raises BadInput for sides that are not multiples of 2^poolings.
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
        inner = 2 * width
        inputs = [width] + [inner] * (poolings - 1)
        skips = [width] * (poolings - 1) + [depth]
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(c_in + c_skip, inner), _convolution(inner, inner))
            for c_in, c_skip in zip(inputs, skips, strict=True)
        )
        self.last = nn.Sequential(
            _convolution(inner, inner, 1), _convolution(inner, inner, 1), nn.Conv2d(inner, depth, 1)
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


def _convolution(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.LeakyReLU(_SLOPE))
