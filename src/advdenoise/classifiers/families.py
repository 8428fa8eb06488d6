"""Small versions of five architectures, those of Yoon et al. 2019, Table 3, for small images.

Each network maps float images [N,C,H,W] in [0,1] to logits [N, classes]. Its first layer subtracts
`mean` and divides by `std` (numbers, or one per channel, in pixel units); the defaults bring pixels
to [-1,1], as in the paper. `width` is the number of channels of the first feature maps. The sides
are halved three times, first by the stem (`vgg` has none). The rows of the paper's Table 6 are
modules: `layers.stem`, `layers.stage1` to `layers.stage3`, `layers.pool`, and `layers.fc`, which
returns the logits.

All raise BadInput for images with a side below 8.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from advdenoise.classifiers._heads import check_head, convolution, with_activation
from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.ranges import Pixel, Size, Std

Shape = tuple[int, int, int]


def resnet_v2(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Residual network with batch norm and ReLU before convolutions (ResNet V2, He et al. 2016).

    Three stages of two blocks. No ReLU follows a sum; one batch norm with ReLU, `layers.norm`,
    follows the last stage.
    """
    _check_sides("resnet_v2", shape)
    widths = (width, 2 * width, 4 * width)
    return _network(
        shape,
        mean,
        std,
        stem=_conv(shape[0], width, stride=2),
        **_stages(widths, _resnet_v2_block),
        norm=nn.Sequential(*_norm(widths[-1])),
        **_pooled(widths[-1], classes),
    )


def vgg(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """A sequence of convolutions and dense layers (VGG, Simonyan and Zisserman 2015).

    Three stages of two 3x3 convolutions with ReLU and without batch norm, each followed by a
    max-pool, then two hidden dense layers of 8 `width` units, `layers.fc1` and `layers.fc2`, and
    the output layer. Weights are initialised as in He et al. 2015.
    """
    _check_sides("vgg", shape)
    widths = (width, 2 * width, 4 * width)
    layers: dict[str, nn.Module] = {}
    inputs = (shape[0], *widths[:-1])
    for number, (c_in, c_out) in enumerate(zip(inputs, widths, strict=True), start=1):
        layers[f"stage{number}"] = nn.Sequential(
            _conv(c_in, c_out, bias=True), nn.ReLU(), _conv(c_out, c_out, bias=True), nn.ReLU()
        )
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    hidden = 8 * width
    elements = widths[-1] * (shape[1] // 8) * (shape[2] // 8)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Sequential(nn.Linear(elements, hidden), nn.ReLU())
    layers["fc2"] = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())
    layers["fc"] = nn.Linear(hidden, classes)
    network = _network(shape, mean, std, **layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return network


def senet(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Residual network with squeeze and excitation (SENet, Hu et al. 2018).

    Three stages of two blocks. A block's two convolutions are followed by squeeze and excitation
    with a reduction to a quarter of the channels, its sum by ReLU.
    """
    _check_sides("senet", shape)
    widths = (width, 2 * width, 4 * width)
    return _network(
        shape,
        mean,
        std,
        stem=_convs(shape[0], width, 3, stride=2),
        **_stages(widths, _senet_block),
        **_pooled(widths[-1], classes),
    )


def inception(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Residual network of parallel branches (Inception-ResNet V2, Szegedy et al. 2017).

    Three stages of two blocks. A block concatenates three branches (1x1; 1x1 and 3x3; 1x1 and two
    3x3 convolutions), and a 1x1 convolution of these is added with weight 0.17. Between the stages,
    `layers.mixed1` and `layers.mixed2` halve the sides by a pool and a strided convolution in
    parallel.
    """
    _check_sides("inception", shape)
    widths = (width, 2 * width, 4 * width)
    layers: dict[str, nn.Module] = {"stem": _convs(shape[0], width, 3, stride=2)}
    pairs = zip(widths, (*widths[1:], None), strict=True)
    for number, (c_out, c_next) in enumerate(pairs, start=1):
        layers[f"stage{number}"] = nn.Sequential(_inception_block(c_out), _inception_block(c_out))
        if c_next:
            layers[f"mixed{number}"] = _Concatenation(
                nn.MaxPool2d(3, 2, padding=1), _convs(c_out, c_next - c_out, 3, stride=2)
            )
    return _network(shape, mean, std, **layers, **_pooled(widths[-1], classes))


def densenet(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    head: Literal["linear", "conv", "prelu", "relu"] = "linear",
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Densely connected network (DenseNet, Huang et al. 2017), with the heads of Table 7.

    Three stages of three layers, each of which appends `width` maps to its input. Between them,
    `layers.transition1` and `layers.transition2` halve channels and sides; batch norm with ReLU,
    `layers.norm`, follows the last stage.

    `head` is `linear` (average pooling and a dense layer), `conv` (one convolution with the size of
    the map instead of both), `prelu` (`linear`, then PReLU with one slope, initially 0.25) or
    `relu` (`linear`, then ReLU; it did not train). Raises BadInput for an unknown head, too.
    """
    check_head(head, "families.densenet: settings")
    _check_sides("densenet", shape)
    layers: dict[str, nn.Module] = {"stem": _conv(shape[0], 2 * width, stride=2)}
    channels, height, side = 2 * width, (shape[1] + 1) // 2, (shape[2] + 1) // 2
    for number in (1, 2, 3):
        layers[f"stage{number}"] = nn.Sequential(
            *(_dense_layer(channels + i * width, width) for i in range(3))
        )
        channels += 3 * width
        if number < 3:
            layers[f"transition{number}"] = nn.Sequential(
                *_norm(channels), _conv(channels, channels // 2, 1), nn.AvgPool2d(2)
            )
            channels, height, side = channels // 2, height // 2, side // 2
    layers["norm"] = nn.Sequential(*_norm(channels))
    if head == "conv":
        layers["fc"] = convolution(channels, (height, side), classes)
    else:
        layers |= _pooled(channels, classes)
    if head in ("prelu", "relu"):
        layers["fc"] = with_activation(layers["fc"], head)
    return _network(shape, mean, std, **layers)


def _check_sides(name: str, shape: Shape) -> None:
    if min(shape[1:]) < 8:
        raise BadInput(
            f"families.{name}: images must be at least 8x8 pixels, got {shape[1]}x{shape[2]}; "
            "choose another classifier for this data set"
        )


def _network(
    shape: Shape, mean: float | list[float], std: float | list[float], **layers: nn.Module
) -> nn.Module:
    return Normalised(Normalise(shape[0], mean, std), nn.Sequential(OrderedDict(layers)))


def _stages(widths: Iterable[int], block: Callable[..., nn.Module]) -> dict[str, nn.Module]:
    """Stages of two blocks; all stages but the first begin with stride 2."""
    stages, c_in = {}, None
    for number, c_out in enumerate(widths, start=1):
        first = block(c_in or c_out, c_out, 2 if c_in else 1)
        stages[f"stage{number}"], c_in = nn.Sequential(first, block(c_out, c_out, 1)), c_out
    return stages


def _pooled(channels: int, classes: int) -> dict[str, nn.Module]:
    """Global average pooling and the dense layer that returns the logits."""
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(channels, classes),
    }


class _Sum(nn.Module):
    """A residual block: after(shortcut(maps) + weight * inner(maps))."""

    def __init__(self, inner: nn.Module, shortcut: nn.Module, after: nn.Module, weight: float = 1):
        super().__init__()
        self.inner, self.shortcut, self.after = inner, shortcut, after
        self._weight = weight

    def forward(self, maps: Tensor) -> Tensor:
        return self.after(self.shortcut(maps) + self._weight * self.inner(maps))


class _Concatenation(nn.ModuleList):
    """Concatenates the maps of parallel branches along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__(branches)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self], dim=1)


class _SqueezeAndExcitation(nn.Module):
    """Multiplies each channel by a weight in (0,1) computed from the means of all channels."""

    def __init__(self, channels: int):
        super().__init__()
        reduced = max(1, channels // 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1),
            nn.ReLU(),
            nn.Conv2d(reduced, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.weigh(maps)


def _resnet_v2_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    inner = [*_norm(c_in), _conv(c_in, c_out, 3, stride), *_norm(c_out), _conv(c_out, c_out)]
    return _Sum(nn.Sequential(*inner), _shortcut(c_in, c_out, stride), nn.Identity())


def _senet_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    inner = [_conv(c_in, c_out, 3, stride), *_norm(c_out), _conv(c_out, c_out)]
    inner += [nn.BatchNorm2d(c_out), _SqueezeAndExcitation(c_out)]
    return _Sum(nn.Sequential(*inner), _shortcut(c_in, c_out, stride), nn.ReLU())


def _inception_block(c_out: int) -> nn.Module:
    half = max(1, c_out // 2)
    branches = _Concatenation(
        _convs(c_out, half, 1), _convs(c_out, half, 1, 3), _convs(c_out, half, 1, 3, 3)
    )
    inner = nn.Sequential(branches, _conv(3 * half, c_out, 1, bias=True))
    return _Sum(inner, nn.Identity(), nn.ReLU(), weight=0.17)


def _dense_layer(channels: int, growth: int) -> nn.Module:
    inner = [*_norm(channels), _conv(channels, 2 * growth, 1), *_norm(2 * growth)]
    return _Concatenation(nn.Identity(), nn.Sequential(*inner, _conv(2 * growth, growth)))


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    return nn.Identity() if (c_in, stride) == (c_out, 1) else _conv(c_in, c_out, 1, stride)


def _convs(c_in: int, c_out: int, *kernels: int, stride: int = 1) -> nn.Sequential:
    """A sequence of convolutions, each followed by batch norm and ReLU."""
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers += [_conv(c_in, c_out, kernel, stride), *_norm(c_out)]
        c_in = c_out
    return nn.Sequential(*layers)


def _conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=bias)


def _norm(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]
