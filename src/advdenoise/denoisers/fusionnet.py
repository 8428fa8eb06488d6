"""FusionNet (Quan et al. 2016): float [N,C,H,W] in [0,1] -> the same shape in [0,1]."""

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.denoisers._sides import check_sides
from advdenoise.ranges import Interval, Size

Shape = tuple[int, int, int]


def fusionnet(
    shape: Shape, *, width: Size = 64, poolings: Annotated[int, Interval(ge=1, le=10)] = 4
) -> nn.Module:
    """The denoiser of "propagation", section 2.3: a U-Net of residual units whose skips are means.

    At each size two 3x3 convolutions with three between that are a residual, all with batch norm:
    `width` maps at full size, twice as many at each size below, halved by `poolings` max-pools. On
    the way back 3x3 transposed convolutions of stride 2 double the sides, and the unit takes the
    mean of their maps and those that were pooled. Leaky ReLU of slope 0.2 on the way down, ReLU on
    the way back. Both ends work on [-1,1]: it is fed 2x - 1 and gives (tanh + 1) / 2. 78,533,955
    parameters for colour images, with width 32 19,646,115, with width 16 4,917,843.

    Raises BadInput for sides that halving does not bring back: multiples of 16 with 4 poolings.
    """
    check_sides("fusionnet.fusionnet", shape, poolings)
    return _FusionNet(shape[0], [width * 2**level for level in range(poolings + 1)])


class _FusionNet(nn.Module):
    def __init__(self, depth: int, widths: list[int]):
        super().__init__()
        above = [depth, *widths[:-1]]
        self.down = nn.ModuleList(
            _Unit(last, width, _leaky) for last, width in zip(above, widths, strict=True)
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.doubled = nn.ModuleList(_doubling(below, width) for below, width in pairs)
        self.up = nn.ModuleList(_Unit(width, width, nn.ReLU) for _, width in pairs)
        self.last = nn.Conv2d(widths[0], depth, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = self.down[0](2 * images - 1), []
        for unit in self.down[1:]:
            skips.append(maps)
            maps = unit(functional.max_pool2d(maps, 2))
        for double, unit in zip(self.doubled, self.up, strict=True):
            maps = unit((double(maps) + skips.pop()) / 2)
        return (torch.tanh(self.last(maps)) + 1) / 2


class _Unit(nn.Module):
    """A convolution, three with a shortcut, and one more; batch norm after each."""

    def __init__(self, last: int, width: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.first = nn.Sequential(*_convolution(last, width), activation())
        self.residual = nn.Sequential(
            *_convolution(width, width),
            activation(),
            *_convolution(width, width),
            activation(),
            *_convolution(width, width),
        )
        self.last = nn.Sequential(*_convolution(width, width), activation())

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.first(maps)
        return self.last(maps + self.residual(maps))


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


def _convolution(last: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(last, width, 3, padding=1), nn.BatchNorm2d(width)]


def _doubling(last: int, width: int) -> nn.Module:
    layer = nn.ConvTranspose2d(last, width, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())
