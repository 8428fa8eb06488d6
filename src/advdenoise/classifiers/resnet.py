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
    """ResNet-18 with a 3x3 stem and without the first pooling (He et al. 2016).

    float [N,C,H,W] in [0,1] -> logits [N, classes], for sides of 8 or more. Four stages of two
    blocks with 1, 2, 4 and 8 times `width` channels, then global average pooling; 11,173,962
    parameters for 32x32 colour images and 10 classes. The first layer subtracts `mean` and divides
    by `std` (pixel units); by default it does neither, as in Kalaria et al. 2022.
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
    """A residual block of two 3x3 convolutions."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = _convolution(c_in, c_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(c_out, c_out, 3, 1)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity()
        if stride != 1 or c_in != c_out:
            projection = _convolution(c_in, c_out, 1, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(c_out))
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(maps)))
        inner = self.bn2(self.conv2(inner))
        return self.relu2(inner + self.shortcut(maps))


def _stage(c_in: int, c_out: int, stride: int) -> nn.Module:
    return nn.Sequential(_Block(c_in, c_out, stride), _Block(c_out, c_out, 1))


def _convolution(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
