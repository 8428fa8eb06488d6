"""Small relatives of the five networks of "propagation", Table 3, for small images.

Each takes float [N,C,H,W] in [0,1] and gives logits [N, classes]. `mean` and `std` (numbers, or one
per channel, in pixel units) are the first layer; by default pixels become [-1,1], as in the paper.
`width` is the number of channels of the first maps. The sides are halved three times, first by the
stem, of which `plain` has none. What the rows of the paper's Table 6 are in the large networks is a
module: `layers.stem`, `layers.stage1` to `stage3`, `layers.pool`, and the last layer, `layers.fc`,
which gives the logits.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from advdenoise.classifiers._heads import bent, check_head, convolution
from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.ranges import Pixel, Size, Std

Shape = tuple[int, int, int]


def preactivated(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Residual network with norm and ReLU before each convolution (ResNet V2, He et al. 2016).

    Three stages of two blocks; sums pass from stage to stage without ReLU, and one norm with ReLU,
    `layers.norm`, follows the last. Raises BadInput for sides below 8.
    """
    _check_sides("preactivated", shape)
    widths = (width, 2 * width, 4 * width)
    return _network(
        shape,
        mean,
        std,
        stem=_conv(shape[0], width, stride=2),
        **_stages(widths, _preactivated),
        norm=nn.Sequential(*_norm(widths[-1])),
        **_pooled(widths[-1], classes),
    )


def plain(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Convolutions and dense layers one behind the other (VGG, Simonyan and Zisserman 2015).

    Three stages of two 3x3 convolutions with ReLU and without norm, a max-pool after each, then two
    hidden dense layers of 8 `width` nodes, `layers.fc1` and `layers.fc2`, and the last. Weights
    start as He et al. 2015 have it. Raises BadInput for sides below 8.
    """
    _check_sides("plain", shape)
    widths = (width, 2 * width, 4 * width)
    layers: dict[str, nn.Module] = {}
    above = (shape[0], *widths[:-1])
    for number, (last, out) in enumerate(zip(above, widths, strict=True), start=1):
        layers[f"stage{number}"] = nn.Sequential(
            _conv(last, out, bias=True), nn.ReLU(), _conv(out, out, bias=True), nn.ReLU()
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


def squeezed(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Residual network whose blocks weigh their channels (SENet, Hu et al. 2018).

    Three stages of two blocks; a block's two convolutions are followed by squeeze and excitation
    with a quarter of the channels between, the sum by ReLU. Raises BadInput for sides below 8.
    """
    _check_sides("squeezed", shape)
    widths = (width, 2 * width, 4 * width)
    return _network(
        shape,
        mean,
        std,
        stem=_convs(shape[0], width, 3, stride=2),
        **_stages(widths, _squeezed),
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

    Each of three stages is two blocks, of which a 1x1, a 3x3 and a twofold 3x3 branch are put
    together by a 1x1 convolution and added with weight 0.17; `layers.mixed1` and `mixed2` between
    them halve the sides by a pool beside a convolution. Raises BadInput for sides below 8.
    """
    _check_sides("inception", shape)
    widths = (width, 2 * width, 4 * width)
    layers: dict[str, nn.Module] = {"stem": _convs(shape[0], width, 3, stride=2)}
    for number, (out, wider) in enumerate(zip(widths, (*widths[1:], None), strict=True), start=1):
        layers[f"stage{number}"] = nn.Sequential(_branched(out), _branched(out))
        if wider:
            layers[f"mixed{number}"] = _Beside(
                nn.MaxPool2d(3, 2, padding=1), _convs(out, wider - out, 3, stride=2)
            )
    return _network(shape, mean, std, **layers, **_pooled(widths[-1], classes))


def dense(
    shape: Shape,
    classes: int,
    *,
    width: Size = 8,
    head: Literal["linear", "conv", "prelu", "relu"] = "linear",
    mean: Pixel | list[Pixel] = 0.5,
    std: Std | list[Std] = 0.5,
) -> nn.Module:
    """Densely connected network (DenseNet, Huang et al. 2017), with the heads of Table 7.

    Three stages of three layers, each of which puts `width` maps beside those that it reads;
    `layers.transition1` and `transition2` between them halve channels and sides; norm with ReLU,
    `layers.norm`, follows the last. `head` is `linear` (average pooling and a dense layer), `conv`
    (one convolution of the size of the map in place of both), `prelu` (`linear`, then PReLU with
    one slope, 0.25 at first) or `relu` (`linear`, then ReLU, which did not train). Raises BadInput
    for another head and for sides below 8.
    """
    check_head(head, "families.dense: settings")
    _check_sides("dense", shape)
    layers: dict[str, nn.Module] = {"stem": _conv(shape[0], 2 * width, stride=2)}
    channels, height, side = 2 * width, (shape[1] + 1) // 2, (shape[2] + 1) // 2
    for number in (1, 2, 3):
        layers[f"stage{number}"] = nn.Sequential(
            *(_grown(channels + place * width, width) for place in range(3))
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
        layers["fc"] = bent(layers["fc"], head)
    return _network(shape, mean, std, **layers)


def _check_sides(name: str, shape: Shape) -> None:
    if min(shape[1:]) < 8:
        raise BadInput(
            f"families.{name} takes images of at least 8x8 pixels, these have "
            f"{shape[1]}x{shape[2]}; choose another classifier for this data set"
        )


def _network(
    shape: Shape, mean: float | list[float], std: float | list[float], **layers: nn.Module
) -> nn.Module:
    return Normalised(Normalise(shape[0], mean, std), nn.Sequential(OrderedDict(layers)))


def _stages(widths: Iterable[int], block: Callable[..., nn.Module]) -> dict[str, nn.Module]:
    """Two blocks to a stage, the first of all but the first stage with stride 2."""
    stages, last = {}, None
    for number, out in enumerate(widths, start=1):
        first = block(last or out, out, 2 if last else 1)
        stages[f"stage{number}"], last = nn.Sequential(first, block(out, out, 1)), out
    return stages


def _pooled(channels: int, classes: int) -> dict[str, nn.Module]:
    """The average over the last map, and the logits."""
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(channels, classes),
    }


class _Sum(nn.Module):
    """What a block makes of its maps, times `weight`, and a shortcut; then `after`."""

    def __init__(self, inner: nn.Module, shortcut: nn.Module, after: nn.Module, weight: float = 1):
        super().__init__()
        self.inner, self.shortcut, self.after = inner, shortcut, after
        self._weight = weight

    def forward(self, maps: Tensor) -> Tensor:
        return self.after(self.shortcut(maps) + self._weight * self.inner(maps))


class _Beside(nn.ModuleList):
    """The maps of all branches, put side by side."""

    def __init__(self, *branches: nn.Module):
        super().__init__(branches)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self], dim=1)


class _Excite(nn.Module):
    """Multiplies each channel by a weight in (0,1) that the means of all channels give."""

    def __init__(self, channels: int):
        super().__init__()
        between = max(1, channels // 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, between, 1),
            nn.ReLU(),
            nn.Conv2d(between, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.weigh(maps)


def _preactivated(last: int, out: int, stride: int) -> nn.Module:
    inner = [*_norm(last), _conv(last, out, 3, stride), *_norm(out), _conv(out, out)]
    return _Sum(nn.Sequential(*inner), _shortcut(last, out, stride), nn.Identity())


def _squeezed(last: int, out: int, stride: int) -> nn.Module:
    inner = [_conv(last, out, 3, stride), *_norm(out), _conv(out, out), nn.BatchNorm2d(out)]
    inner.append(_Excite(out))
    return _Sum(nn.Sequential(*inner), _shortcut(last, out, stride), nn.ReLU())


def _branched(out: int) -> nn.Module:
    half = max(1, out // 2)
    branches = _Beside(_convs(out, half, 1), _convs(out, half, 1, 3), _convs(out, half, 1, 3, 3))
    inner = nn.Sequential(branches, _conv(3 * half, out, 1, bias=True))
    return _Sum(inner, nn.Identity(), nn.ReLU(), weight=0.17)


def _grown(channels: int, growth: int) -> nn.Module:
    inner = [*_norm(channels), _conv(channels, 2 * growth, 1), *_norm(2 * growth)]
    return _Beside(nn.Identity(), nn.Sequential(*inner, _conv(2 * growth, growth)))


def _shortcut(last: int, out: int, stride: int) -> nn.Module:
    return nn.Identity() if (last, stride) == (out, 1) else _conv(last, out, 1, stride)


def _convs(last: int, out: int, *kernels: int, stride: int = 1) -> nn.Sequential:
    """Convolutions with norm and ReLU, one behind the other."""
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers += [_conv(last, out, kernel, stride), *_norm(out)]
        last = out
    return nn.Sequential(*layers)


def _conv(last: int, out: int, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(last, out, kernel, stride, padding=kernel // 2, bias=bias)


def _norm(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]
