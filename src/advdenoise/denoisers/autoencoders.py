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

    5,729 parameters for grey images; both ends work on [-1,1], so it is fed 2x - 1 and gives
    (tanh + 1) / 2. Raises BadInput for sides that its strides do not bring back, which are all but
    12 k + 4.
    """
    depth, height, width = shape
    if any(side < 16 or side % 12 != 4 for side in (height, width)):
        raise BadInput(
            f"autoencoders.seven_layer cannot give back images of {height}x{width}; it takes sides "
            "of 16, 28, 40, 52, 64 and so on (12 k + 4), or choose another denoiser"
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
    """The autoencoder of APuDAE, Table 1: RED-Net (Mao et al. 2016), at half the resolution.

    Half of the `layers` are 3x3 convolutions, the first with stride 2, half transposed
    convolutions, the last with stride 2; each is followed by ReLU and batch norm. The output of
    every second convolution is added after its mirror image. 1,041,219 parameters for colour
    images; four layers, 77,763, are what the table lists.

    `output` is what follows the last layer: `residual` adds the image and clamps to [0,1],
    `relu` adds the image and cuts below 0 only, as the authors' program does (values may exceed
    1), `sigmoid` is the paper's, without adding the image. In training mode `residual` does not
    clamp: a clamped element has no gradient, so an output that starts outside [0,1] would never
    come back, while the squared error to an image in [0,1] only falls when it is clamped later.

    Raises BadInput for odd sides, which halving loses, odd or too few layers and unknown outputs.
    """
    depth, height, side = shape
    if height % 2 or side % 2:
        raise BadInput(
            f"autoencoders.red_net cannot give back images of {height}x{side}; it takes even sides"
        )
    if layers < 4 or layers % 2:
        raise BadInput(
            f"autoencoders.red_net: settings.layers: {layers} is not an even number from 4 on"
        )
    if output not in OUTPUTS:
        raise BadInput(
            f"autoencoders.red_net: settings.output: {output!r} is none of {', '.join(OUTPUTS)}"
        )
    return _RedNet(depth, layers // 2, width, batch_norm, output)


def elu_skips(
    shape: Shape,
    *,
    channels: Annotated[Sequence[Size], Interval(ge=1, le=5)] = (64, 128, 256, 512, 512),
) -> nn.Module:
    """The autoencoder of "dapas", Figure 2: one strided convolution a halving, with added skips.

    3x3 convolutions of stride 2 bring each of `channels`, transposed ones lead back, 513 -> 257 ->
    129 -> 65 -> 33 -> 17 and the same way up; ELU after each, the output of the encoder's layer of
    the same size added behind it, a sigmoid at the end. Nothing is pooled, and nothing leads from
    the image past the code. 7,821,059 parameters for colour images.

    Raises BadInput for sides that are not 32k+1.
    """
    check_sides("autoencoders.elu_skips", *shape[1:])
    return _EluSkips(shape[0], channels)


def magnet(shape: Shape, *, pooling: bool) -> nn.Module:
    """The reformers of MagNet (Meng and Chen 2017) for grey images, sigmoids throughout.

    With `pooling` autoencoder I, 310 parameters: two 3x3 convolutions of 3 channels, with average
    pooling between, two more, with doubling between, and one that ends it. Without it autoencoder
    II, 142 parameters: a convolution to 3 channels, one of 3, one that ends it.

    Raises BadInput for odd sides, which pooling loses.
    """
    depth, height, side = shape
    if pooling and (height % 2 or side % 2):
        raise BadInput(
            f"autoencoders.magnet with pooling cannot give back images of {height}x{side}; it "
            "takes even sides, or set pooling to false"
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
            nn.Sequential(nn.Conv2d(last, out, 3, stride=2, padding=1), nn.ELU())
            for last, out in pairs
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(out, last, 3, stride=2, padding=1), nn.ELU())
            for last, out in reversed(pairs[1:])
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
            _after(nn.Conv2d(last, width, 3, stride, padding=1), batch_norm)
            for last, stride in [(depth, 2)] + [(width, 1)] * (half - 1)
        )
        self.decoder = nn.ModuleList(
            _after(nn.ConvTranspose2d(width, width, 3, padding=1), batch_norm)
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


def _after(layer: nn.Module, batch_norm: bool) -> nn.Module:
    """The layer, then ReLU and batch norm in the authors' order."""
    norm = [nn.BatchNorm2d(layer.out_channels)] if batch_norm else []
    return nn.Sequential(layer, nn.ReLU(), *norm)


def _sigmoid(last: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(last, width, 3, padding=1), nn.Sigmoid()]
