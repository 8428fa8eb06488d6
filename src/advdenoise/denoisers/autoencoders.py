"""Convolutional autoencoders: float [N,C,H,W] in [0,1] -> the same shape in [0,1]."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.ranges import Interval, Size
from advdenoise.sides import check_sides

Shape = tuple[int, int, int]
OUTPUTS = ("residual", "sigmoid", "relu")


def seven_layer(shape: Shape, *, channels: tuple[Size, Size] = (16, 8)) -> nn.Module:
    """The autoencoder of "feature losses", section on the denoiser: 28x28 -> 2x2 -> 28x28.

    5,729 parameters for grey images. Input and output are scaled to [-1,1] inside: 2x - 1, and
    (tanh + 1) / 2. Raises BadInput for sides that its strides do not restore, which are all but
    12 k + 4 with k >= 1.
    """
    depth, height, width = shape
    if any(side < 16 or side % 12 != 4 for side in (height, width)):
        raise BadInput(
            f"autoencoders.seven_layer: sides must be 16, 28, 40, 52, 64 and so on (12 k + 4), got "
            f"{height}x{width}; choose another denoiser for this data set"
        )
    outer, inner = channels
    return _SevenLayer(
        nn.Conv2d(depth, outer, 3, stride=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(outer, inner, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.ConvTranspose2d(inner, outer, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(outer, inner, 5, stride=3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(inner, depth, 2, stride=2, padding=1),
        nn.Tanh(),
    )


def red_net(
    shape: Shape,
    *,
    layers: Annotated[int, Interval(ge=4, le=1000, multiple_of=2)] = 30,
    width: Size = 64,
    batch_norm: bool = True,
    output: Literal["residual", "sigmoid", "relu"] = "residual",
) -> nn.Module:
    """RED-Net (Mao et al. 2016) at half the resolution (Kalaria et al. 2022, Table 1).

    Half of the `layers` are 3x3 convolutions, the first with stride 2; half are transposed
    convolutions, the last with stride 2. ReLU and batch norm follow each but the last. The output
    of every second convolution is added to that of the mirrored transposed one. 1,041,219
    parameters for colour images; the four layers that the table lists have 77,763.

    `output` follows the last layer. `residual` adds the image and clamps to [0,1]; `relu` adds the
    image and clamps below at 0 only, as the authors' program does (values may exceed 1); `sigmoid`
    is the paper's, without adding the image. In training mode `residual` does not clamp: clamped
    elements have no gradient and would never return to [0,1], and clamping later can only decrease
    the squared error to an image in [0,1].

    Raises BadInput for odd sides, for an odd number of layers or fewer than 4, and for an unknown
    output.
    """
    depth, height, side = shape
    if height % 2 or side % 2:
        raise BadInput(
            f"autoencoders.red_net: sides must be even, got {height}x{side}; choose another "
            "denoiser for this data set"
        )
    if layers < 4 or layers % 2:
        raise BadInput(
            f"autoencoders.red_net: settings.layers: must be even and at least 4, got {layers}"
        )
    if output not in OUTPUTS:
        raise BadInput(
            f"autoencoders.red_net: settings.output: must be one of {', '.join(OUTPUTS)}, "
            f"got {output!r}"
        )
    return _RedNet(depth, layers // 2, width, batch_norm, output)


def elu_skips(
    shape: Shape,
    *,
    channels: Annotated[Sequence[Size], Interval(ge=1, le=5)] = (64, 128, 256, 512, 512),
) -> nn.Module:
    """Strided convolutions with additive skips (Cho et al. 2020, Figure 2).

    3x3 convolutions of stride 2 with the output `channels` (sides 513 -> 257 -> 129 -> 65 -> 33 ->
    17), then transposed ones back. ELU follows each, in the decoder the encoder's output of the
    same size is added after it, and a sigmoid ends the network. There is no pooling and no skip
    from the image. 7,821,059 parameters for colour images.

    Raises BadInput for sides that are not 32k+1.
    """
    check_sides("autoencoders.elu_skips", *shape[1:])
    return _EluSkips(shape[0], channels)


def magnet(shape: Shape, *, pooling: bool) -> nn.Module:
    """The reformers of MagNet (Meng and Chen 2017) for grey images, sigmoids throughout.

    With `pooling` autoencoder I (310 parameters): two 3x3 convolutions of 3 channels with average
    pooling between them, two more with upsampling between them, and a last one. Without it
    autoencoder II (142 parameters): two convolutions of 3 channels and a last one.

    Raises BadInput for odd sides with `pooling`.
    """
    depth, height, side = shape
    if pooling and (height % 2 or side % 2):
        raise BadInput(
            f"autoencoders.magnet: sides must be even with pooling, got {height}x{side}; set "
            "pooling to false"
        )
    first, last = _sigmoid(depth, 3), _sigmoid(3, depth)
    if not pooling:
        return nn.Sequential(*first, *_sigmoid(3, 3), *last)
    down = [*first, nn.AvgPool2d(2), *_sigmoid(3, 3)]
    up = [*_sigmoid(3, 3), nn.Upsample(scale_factor=2), *_sigmoid(3, 3)]
    return nn.Sequential(*down, *up, *last)


class _SevenLayer(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(2 * images - 1) + 1) / 2


class _EluSkips(nn.Module):
    def __init__(self, depth: int, channels: Sequence[int]):
        super().__init__()
        pairs = list(zip([depth, *channels[:-1]], channels, strict=True))
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.ELU())
            for c_in, c_out in pairs
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(c_out, c_in, 3, stride=2, padding=1), nn.ELU())
            for c_in, c_out in reversed(pairs[1:])
        )
        self.last = nn.ConvTranspose2d(channels[0], depth, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = images, []
        for layer in self.encoder:
            maps = layer(maps)
            skips.append(maps)
        skips.pop()
        for layer in self.decoder:
            maps = layer(maps) + skips.pop()
        return torch.sigmoid(self.last(maps))


class _RedNet(nn.Module):
    def __init__(self, depth: int, half: int, width: int, batch_norm: bool, output: str):
        super().__init__()
        self._output = output
        self.encoder = nn.ModuleList(
            _relu_and_norm(nn.Conv2d(c_in, width, 3, stride, padding=1), batch_norm)
            for c_in, stride in [(depth, 2)] + [(width, 1)] * (half - 1)
        )
        self.decoder = nn.ModuleList(
            _relu_and_norm(nn.ConvTranspose2d(width, width, 3, padding=1), batch_norm)
            for _ in range(half - 1)
        )
        self.last = nn.ConvTranspose2d(width, depth, 3, stride=2, padding=1, output_padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = images, {}
        for number, layer in enumerate(self.encoder, start=1):
            maps = layer(maps)
            if number % 2 == 0 and number < len(self.encoder):
                skips[len(self.encoder) - number] = maps
        for number, layer in enumerate(self.decoder, start=1):
            maps = layer(maps)
            if number in skips:
                maps = functional.relu(maps + skips.pop(number))
        return self._finish(self.last(maps), images)

    def _finish(self, maps: Tensor, images: Tensor) -> Tensor:
        if self._output == "sigmoid":
            return torch.sigmoid(maps)
        maps = maps + images
        if self._output == "relu":
            return functional.relu(maps)
        return maps if self.training else maps.clamp(0, 1)


def _relu_and_norm(layer: nn.Module, batch_norm: bool) -> nn.Module:
    """The layer followed by ReLU and batch norm, in the authors' order."""
    norm = [nn.BatchNorm2d(layer.out_channels)] if batch_norm else []
    return nn.Sequential(layer, nn.ReLU(), *norm)


def _sigmoid(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.Sigmoid()]
