"""Residual networks for small images."""

from collections import OrderedDict

from torch import Tensor, nn

from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.ranges import Pixel, Size, Std


def cifar_resnet18(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: Size = 64,
    mean: Pixel | list[Pixel] = 0.0,
    std: Std | list[Std] = 1.0,
) -> nn.Module:
    """ResNet-18 with a 3x3 stem and no first pooling (He et al. 2016), as APuDAE uses it.

    float [N,C,H,W] in [0,1] -> logits [N, classes]; any side from 8. Four stages of two blocks with
    `width`, 2, 4 and 8 `width` channels, then the average over the last map: 11,173,962
    parameters at 32x32 colour and 10 classes. APuDAE uses neither mean nor std, hence 0 and 1.
    """
    layers = OrderedDict(
        conv1=_convolution(shape[0], width, 3, 1),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
        layer1=_stage(width, width, 1),
        layer2=_stage(width, 2 * width, 2),
        layer3=_stage(2 * width, 4 * width, 2),
        layer4=_stage(4 * width, 8 * width, 2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(8 * width, classes),
    )
    return Normalised(Normalise(shape[0], mean, std), nn.Sequential(layers))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, last: int, out: int, stride: int):
        super().__init__()
        self.conv1 = _convolution(last, out, 3, stride)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(out, out, 3, 1)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Identity()
        if stride != 1 or last != out:
            self.shortcut = nn.Sequential(_convolution(last, out, 1, stride), nn.BatchNorm2d(out))
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(maps)))
        inner = self.bn2(self.conv2(inner))
        return self.relu2(inner + self.shortcut(maps))


def _stage(last: int, out: int, stride: int) -> nn.Module:
    return nn.Sequential(_Block(last, out, stride), _Block(out, out, 1))


def _convolution(last: int, out: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(last, out, kernel, stride, padding=kernel // 2, bias=False)
