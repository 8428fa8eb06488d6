"""U-Nets (Ronneberger et al. 2015): float [N,C,H,W] in [0,1] -> the same shape in [0,1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.advdenoise.errors import BadInput

Shape = tuple[int, int, int]


def hgd(shape: Shape, *, widths: Sequence[int] = (32, 64, 128), convolutions: int = 2) -> nn.Module:
    """The denoising U-Net of Liao et al. 2018 (HGD), which estimates the noise.

    One scale for each of `widths`, halved by the first convolution of the scale below and doubled
    bilinearly; on the way back the maps of a scale's way down are put beside. Each scale has
    `convolutions` 3x3 convolutions with batch norm and ReLU on each way (the lowest on one), a 1x1
    convolution ends it, and the image is added. Widths and number are for small images; the
    original has 64, 128, 256, 256, 256 and 2 or 3. In training mode the output is not clamped to
    [0,1]: a clamped element has no gradient.

    Raises BadInput for sides that halving does not bring back.
    """
    depth, height, side = shape
    step = 2 ** (len(widths) - 1)
    if height % step or side % step:
        raise BadInput(
            f"unet.hgd cannot give back images of {height}x{side}; {len(widths)} scales take sides "
            f"that {step} divides"
        )
    return _Hgd(depth, widths, convolutions)


class _Hgd(nn.Module):
    def __init__(self, depth: int, widths: Sequence[int], convolutions: int):
        super().__init__()
        above = [depth, *widths[:-1]]
        self.down = nn.ModuleList(
            _block(last, width, convolutions, stride=1 if place == 0 else 2)
            for place, (last, width) in enumerate(zip(above, widths, strict=True))
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.up = nn.ModuleList(
            _block(below + width, width, convolutions) for below, width in reversed(pairs)
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


def _block(last: int, width: int, convolutions: int, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers += [
            nn.Conv2d(last, width, 3, stride if number == 0 else 1, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        last = width
    return nn.Sequential(*layers)
