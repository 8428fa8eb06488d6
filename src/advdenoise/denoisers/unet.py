"""U-Nets (Ronneberger et al. 2015): float [N,C,H,W] in [0,1] -> the same shape in [0,1]."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.denoisers._sides import check_sides
from advdenoise.ranges import Interval, Size

Shape = tuple[int, int, int]


def hgd(
    shape: Shape,
    *,
    widths: Annotated[Sequence[Size], Interval(ge=1, le=11)] = (32, 64, 128),
    convolutions: Annotated[int, Interval(ge=1, le=100)] = 2,
) -> nn.Module:
    """The denoising U-Net of Liao et al. 2018 (HGD), which predicts the noise.

    One scale for each of `widths`. In the encoder and in the decoder each scale has `convolutions`
    3x3 convolutions with batch norm and ReLU, the lowest in the encoder only. The first convolution
    of a scale halves the sides; the decoder doubles them bilinearly and concatenates the encoder's
    maps. A 1x1 convolution follows, and the image is added. The defaults are for small images; the
    original has widths of 64, 128, 256, 256, 256 and 2 or 3 convolutions. In training mode the
    output is not clamped to [0,1], since clamped elements have no gradient.

    Raises BadInput for sides that are not multiples of 2^(len(widths) - 1).
    """
    check_sides("unet.hgd", shape, len(widths) - 1)
    return _Hgd(shape[0], widths, convolutions)


def classic(
    shape: Shape,
    *,
    width: Size = 64,
    poolings: Annotated[int, Interval(ge=1, le=10)] = 4,
    batch_norm: bool = True,
) -> nn.Module:
    """The U-Net of Ronneberger et al. 2015 with padded convolutions.

    Two 3x3 convolutions with batch norm and ReLU at each scale: `width` maps at full resolution,
    twice as many after each of `poolings` max-pools. In the decoder, 2x2 transposed convolutions of
    stride 2 double the sides and halve the maps, which are concatenated with the encoder's; a 1x1
    convolution ends it. Input and output are scaled to [-1,1] inside (Yoon et
    al. 2019, section 2.3): 2x - 1, and (output + 1) / 2. 31,037,763 parameters for colour images,
    31,031,875 without `batch_norm`. In training mode the output is not clamped to [0,1], since
    clamped elements have no gradient.

    Raises BadInput for sides that are not multiples of 2^poolings.
    """
    check_sides("unet.classic", shape, poolings)
    return _Classic(shape[0], [width * 2**level for level in range(poolings + 1)], batch_norm)


class _Hgd(nn.Module):
    def __init__(self, depth: int, widths: Sequence[int], convolutions: int):
        super().__init__()
        inputs = [depth, *widths[:-1]]
        self.down = nn.ModuleList(
            _block(c_in, c_out, convolutions, stride=1 if i == 0 else 2)
            for i, (c_in, c_out) in enumerate(zip(inputs, widths, strict=True))
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.up = nn.ModuleList(
            _block(c_below + c_out, c_out, convolutions) for c_below, c_out in reversed(pairs)
        )
        self.last = nn.Conv2d(widths[0], depth, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = images, []
        for block in self.down:
            maps = block(maps)
            skips.append(maps)
        skips.pop()
        for block in self.up:
            maps = functional.interpolate(maps, scale_factor=2.0, mode="bilinear")
            maps = block(torch.cat([maps, skips.pop()], dim=1))
        denoised = images + self.last(maps)
        return denoised if self.training else denoised.clamp(0, 1)


class _Classic(nn.Module):
    def __init__(self, depth: int, widths: list[int], batch_norm: bool):
        super().__init__()
        inputs = [depth, *widths[:-1]]
        self.down = nn.ModuleList(
            _block(c_in, c_out, 2, batch_norm=batch_norm)
            for c_in, c_out in zip(inputs, widths, strict=True)
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.doubled = nn.ModuleList(
            nn.ConvTranspose2d(c_below, c_out, 2, stride=2) for c_below, c_out in pairs
        )
        self.up = nn.ModuleList(
            _block(2 * c_out, c_out, 2, batch_norm=batch_norm) for _, c_out in pairs
        )
        self.last = nn.Conv2d(widths[0], depth, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = self.down[0](2 * images - 1), []
        for block in self.down[1:]:
            skips.append(maps)
            maps = block(functional.max_pool2d(maps, 2))
        for upsample, block in zip(self.doubled, self.up, strict=True):
            maps = block(torch.cat([skips.pop(), upsample(maps)], dim=1))
        denoised = (self.last(maps) + 1) / 2
        return denoised if self.training else denoised.clamp(0, 1)


def _block(
    c_in: int, c_out: int, convolutions: int, stride: int = 1, batch_norm: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convolutions):
        step = stride if number == 0 else 1
        layers.append(nn.Conv2d(c_in, c_out, 3, step, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(c_out), nn.ReLU()] if batch_norm else [nn.ReLU()]
        c_in = c_out
    return nn.Sequential(*layers)
