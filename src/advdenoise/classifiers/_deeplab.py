"""DeepLabV3+ with full 3x3 convolutions: a network of 78.43 % mIoU.

Source: Chen et al. 2018, at output stride 16; Cho et al. 2020 attack it. The published weights are
those of a ResNet-101 whose pyramid and decoder are not separable; `own_names` translates their
names to those of this network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Dilations at output stride 16, of the pyramid and of the last three residual blocks.
RATES = (6, 12, 18)
GRID = (2, 4, 8)
ENCODERS = ("resnet50", "resnet101", "resnet152")

# From prefixes of the names in the published file to those in this network.
_PUBLISHED = {
    "backbone.": "encoder.",
    "aspp.aspp1.atrous_conv.": "pyramid.0.0.",
    "aspp.aspp1.bn.": "pyramid.0.1.",
    "aspp.aspp2.atrous_conv.": "pyramid.1.0.",
    "aspp.aspp2.bn.": "pyramid.1.1.",
    "aspp.aspp3.atrous_conv.": "pyramid.2.0.",
    "aspp.aspp3.bn.": "pyramid.2.1.",
    "aspp.aspp4.atrous_conv.": "pyramid.3.0.",
    "aspp.aspp4.bn.": "pyramid.3.1.",
    "aspp.global_avg_pool.1.": "pooled.1.0.",
    "aspp.global_avg_pool.2.": "pooled.1.1.",
    "aspp.conv1.": "project.0.",
    "aspp.bn1.": "project.1.",
    "decoder.conv1.": "low.0.",
    "decoder.bn1.": "low.1.",
    "decoder.last_conv.0.": "decode.0.",
    "decoder.last_conv.1.": "decode.1.",
    "decoder.last_conv.4.": "decode.4.",
    "decoder.last_conv.5.": "decode.5.",
    "decoder.last_conv.8.": "decode.8.",
}


class FullDeepLab(nn.Module):
    """float [N,3,H,W] -> logits [N, classes, H, W], for any H and W.

    Args:
        classes: number of classes.
        encoder: one of `ENCODERS`, built by torchvision.
        width: channels of the pyramid and the decoder; the low-level branch has 48.
        rates: dilations of the pyramid's three atrous convolutions.
    """

    def __init__(self, classes: int, encoder: str, width: int, rates: tuple[int, ...]):
        super().__init__()
        self.encoder = _encoder(encoder)
        atrous = (conv_bn_relu(2048, width, rate=rate) for rate in rates)
        self.pyramid = nn.ModuleList([conv_bn_relu(2048, width, 1), *atrous])
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn_relu(2048, width, 1))
        self.project = conv_bn_relu((len(rates) + 2) * width, width, 1)
        self.dropout = nn.Dropout(0.5)
        self.low = conv_bn_relu(256, 48, 1)
        self.decode = nn.Sequential(
            *conv_bn_relu(width + 48, width),
            nn.Dropout(0.5),
            *conv_bn_relu(width, width),
            nn.Dropout(0.1),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        encoder = self.encoder
        maps = encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(images))))
        first = encoder.layer1(maps)
        maps = encoder.layer4(encoder.layer3(encoder.layer2(first)))
        mean = self.pooled(maps).expand(-1, -1, *maps.shape[2:])
        maps = torch.cat([*(layer(maps) for layer in self.pyramid), mean], dim=1)
        maps = _resize(self.dropout(self.project(maps)), first)
        return _resize(self.decode(torch.cat([maps, self.low(first)], dim=1)), images)


def own_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the published file under the names of this network; others unchanged."""
    if not any(name.startswith("aspp.") for name in tensors):
        return tensors
    return {_own_name(name): tensor for name, tensor in tensors.items()}


def _own_name(name: str) -> str:
    for prefix, local in _PUBLISHED.items():
        if name.startswith(prefix):
            return local + name.removeprefix(prefix)
    return name


def _encoder(name: str) -> nn.Module:
    """torchvision's ResNet without its classifier; the last stage is dilated instead of strided."""
    from torchvision import models

    encoder = getattr(models, name)(weights=None)
    del encoder.avgpool, encoder.fc
    for block, rate in zip(encoder.layer4, GRID, strict=True):
        convolution = block.conv2
        convolution.stride, convolution.dilation, convolution.padding = (1, 1), *((rate, rate),) * 2
    encoder.layer4[0].downsample[0].stride = (1, 1)
    return encoder


def conv_bn_relu(
    c_in: int, c_out: int, kernel: int = 3, stride: int = 1, rate: int = 1
) -> nn.Sequential:
    """A padded convolution of dilation `rate`, batch norm and ReLU."""
    padding = rate * (kernel // 2)
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation=rate, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU())


def _resize(maps: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(maps, like.shape[2:], mode="bilinear", align_corners=True)
