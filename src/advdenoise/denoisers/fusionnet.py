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
    """A U-Net of residual units with averaged skips (Yoon et al. 2019, section 2.3).

    A unit is a 3x3 convolution, a residual of three and one more, all with batch norm. The encoder
    has one unit per scale, with `width` maps at full resolution and twice as many after each of
    `poolings` max-pools. In the decoder, 3x3 transposed convolutions of stride 2 double the sides,
    and the unit's input is the mean of their maps and the encoder's. Leaky ReLU of slope 0.2 in the
    encoder, ReLU in the decoder. Input and output are scaled to [-1,1] inside: 2x - 1, and
    (tanh + 1) / 2. 78,533,955 parameters for colour images; 19,646,115 with width 32 and 4,917,843
    with width 16.

    Raises BadInput for sides that are not multiples of 2^poolings.
    """
    check_sides("fusionnet.fusionnet", shape, poolings)
    return _FusionNet(shape[0], [width * 2**level for level in range(poolings + 1)])


class _FusionNet(nn.Module):
    def __init__(self, depth: int, widths: list[int]):
        super().__init__()
        inputs = [depth, *widths[:-1]]
        self.down = nn.ModuleList(
            _Unit(c_in, width, _leaky) for c_in, width in zip(inputs, widths, strict=True)
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.doubled = nn.ModuleList(_upsampling(below, width) for below, width in pairs)
        self.up = nn.ModuleList(_Unit(width, width, nn.ReLU) for _, width in pairs)
        self.last = nn.Conv2d(widths[0], depth, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = self.down[0](2 * images - 1), []
        for unit in self.down[1:]:
            skips.append(maps)
            maps = unit(functional.max_pool2d(maps, 2))
        for upsample, unit in zip(self.doubled, self.up, strict=True):
            maps = unit((upsample(maps) + skips.pop()) / 2)
        return (torch.tanh(self.last(maps)) + 1) / 2


class _Unit(nn.Module):
    """A convolution, a residual of three and one more convolution, with batch norm after each."""

    def __init__(self, c_in: int, c_out: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.first = nn.Sequential(*_convolution(c_in, c_out), activation())
        self.residual = nn.Sequential(
            *_convolution(c_out, c_out),
            activation(),
            *_convolution(c_out, c_out),
            activation(),
            *_convolution(c_out, c_out),
        )
        self.last = nn.Sequential(*_convolution(c_out, c_out), activation())

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.first(maps)
        return self.last(maps + self.residual(maps))


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


def _convolution(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out)]


def _upsampling(c_in: int, c_out: int) -> nn.Module:
    layer = nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.ReLU())
