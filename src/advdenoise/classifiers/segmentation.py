"""Segmenters: float [N,3,H,W] in [0,1] -> logits [N, classes, H, W]."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.classifiers._deeplab import ENCODERS, RATES, FullDeepLab, conv_bn_relu, own_names
from advdenoise.classifiers._pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_one_source,
    fetch,
)
from advdenoise.errors import BadInput, short
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.checkpoints import load_tensors, read_tensors
from advdenoise.ranges import Interval, Size
from advdenoise.sides import check_sides

# Return annotation of functions that build segmenters: the configuration reads it without a call.
Segmenter: TypeAlias = nn.Module

BACKBONES = ("resnet50", "resnet101")
VOC_CLASSES = 21


def deeplab_v3_plus(
    shape: tuple[int, int, int],
    classes: int,
    *,
    encoder: str = "resnet101",
    width: Size = 256,
    rates: tuple[Size, Size, Size] = RATES,
    decoder: Literal["separable", "full"] = "separable",
    pretrained: bool = False,
    weights: str | None = None,
) -> Segmenter:
    """DeepLabV3+ (Chen et al. 2018) at output stride 16, for sides of 32k+1.

    Images are normalised with ImageNet's mean and standard deviation. The library's upsampling
    takes multiples of 16 only; here maps are resized to those that they are added to (sides of
    32k+1 give 16k+1, 8k+1 and so on).

    Args:
        encoder: the backbone, by its name in segmentation-models-pytorch.
        width: channels of the pyramid and the decoder; the decoder's low-level branch has 48.
        rates: dilations of the pyramid's atrous convolutions.
        decoder: the convolutions of pyramid and decoder. `separable` is the network of
            segmentation-models-pytorch: 45,674,853 parameters for 21 classes on ResNet-101. `full`
            is the network that Cho et al. 2020 attack, as its clean mIoU of 78.4 shows: that of the
            repository pytorch-deeplab-xception (78.43 on VOC 2012, trained with SBD), whose last
            residual blocks have dilations 2, 4 and 8; 59,344,309 parameters; on ResNet-50, -101 or
            -152 only.
        pretrained: fetch ImageNet weights of the encoder.
        weights: a local file instead, safetensors or a torch state dict: of exactly this network
            (as this workflow writes it, or with `full` that repository's checkpoint), or of the
            encoder alone, as torchvision's ResNet for ImageNet.

    Raises:
        BadInput: other sides, an unknown encoder, weights that do not fit or cannot be fetched.
        DamagedFile: weights that cannot be read.
    """
    key = "segmentation.deeplab_v3_plus: settings"
    check_sides("segmentation.deeplab_v3_plus", *shape[1:])
    check_one_source(key, pretrained, weights)
    if decoder == "full":
        network = _full(classes, encoder, width, rates, pretrained, key)
    else:
        network = _smp(shape[0], classes, encoder, width, rates, pretrained, key)
        network.requires_divisible_input_shape = False
        sides = [(side - 1) // 4 + 1 for side in shape[1:]]
        network.decoder.up = _upsample(sides)
        network.segmentation_head[1] = _upsample(shape[1:])
    if weights:
        _load(network, Path(weights), f"{key}.weights", f"{encoder!r} for {classes} classes")
    return _imagenet(shape, network)


def _smp(channels, classes, encoder, width, rates, pretrained, key) -> nn.Module:
    # Imported here because it takes seconds.
    import segmentation_models_pytorch as smp

    if encoder not in smp.encoders.get_encoder_names():
        raise BadInput(
            f"{key}.encoder: segmentation-models-pytorch has no encoder {encoder!r}; choose one of "
            "its `encoders.get_encoder_names()`, such as resnet101"
        )
    try:
        return smp.DeepLabV3Plus(
            encoder,
            encoder_weights="imagenet" if pretrained else None,
            encoder_output_stride=16,
            decoder_channels=width,
            decoder_atrous_rates=tuple(rates),
            in_channels=channels,
            classes=classes,
        )
    except Exception as error:  # Network, hub and cache each raise a type of their own.
        if isinstance(error, ValueError):
            raise BadInput(
                f"{key}.encoder: {encoder!r} does not support output stride 16 ({short(error)}); "
                "choose another, such as resnet101"
            ) from error
        if not pretrained:
            raise
        raise BadInput(
            f"{key}.pretrained: ImageNet weights of {encoder!r} cannot be fetched "
            f"({short(error)}); name a local file in `weights`"
        ) from error


def _full(classes, encoder, width, rates, pretrained, key) -> nn.Module:
    if encoder not in ENCODERS:
        raise BadInput(
            f"{key}.encoder: with `decoder: full` must be one of {', '.join(ENCODERS)}, "
            f"got {encoder!r}"
        )
    network = FullDeepLab(classes, encoder, width, tuple(rates))
    if pretrained:
        from torchvision.models import get_model_weights

        stored = fetch(get_model_weights(encoder).IMAGENET1K_V1, f"{encoder!r}", key)
        load_tensors(network.encoder, _without_head(stored), Path(), f"{key}.pretrained", encoder)
    return network


def _without_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _upsample(sides: Sequence[int]) -> nn.Upsample:
    """Resizing to these sides with aligned corners, so that k + 1 pixels map onto 16k + 1."""
    return nn.Upsample(tuple(sides), mode="bilinear", align_corners=True)


def _load(network: nn.Module, path: Path, key: str, description: str) -> None:
    """Load weights of the whole network, or of its encoder alone."""
    tensors = own_names(read_tensors(path, key))
    if any(name.startswith("encoder.") for name in tensors):
        load_tensors(network, tensors, path, key, description)
    else:
        tensors, description = _without_head(tensors), f"the encoder {description}"
        load_tensors(network.encoder, tensors, path, key, description)


def deeplab_v3(
    shape: tuple[int, int, int],
    classes: int,
    *,
    backbone: Literal["resnet50", "resnet101"] = "resnet101",
    pretrained: bool = False,
    weights: str | None = None,
) -> Segmenter:
    """torchvision's DeepLabV3 (Chen et al. 2017) at output stride 8, for any sides.

    Images are normalised with ImageNet's mean and standard deviation.

    Args:
        backbone: resnet101 (58,630,997 parameters for 21 classes) or resnet50.
        pretrained: fetch torchvision's weights, trained on the images of COCO with classes of VOC.
            The last layer is left out unless there are 21 classes, as in VOC.
        weights: a local file instead, with these weights or with those of a segmenter that this
            workflow trained.

    Raises:
        BadInput: an unknown backbone, weights that do not fit or cannot be fetched.
        DamagedFile: weights that cannot be read.
    """
    key = "segmentation.deeplab_v3: settings"
    if backbone not in BACKBONES:
        raise BadInput(f"{key}.backbone: must be one of {', '.join(BACKBONES)}, got {backbone!r}")
    check_one_source(key, pretrained, weights)
    from torchvision.models import segmentation as zoo

    stock = getattr(zoo, f"deeplabv3_{backbone}")(
        weights=None, weights_backbone=None, num_classes=classes
    )
    network = _DeepLabV3(stock.backbone, stock.classifier)
    if pretrained or weights:
        path = Path(weights or "")
        read = read_tensors(path, f"{key}.weights") if weights else _voc_weights(backbone, key)
        main = {n: t for n, t in read.items() if not n.startswith("aux_classifier.")}
        description = f"{backbone!r} for {classes} classes"
        load_tensors(network, _with_head(main, network), path, f"{key}.weights", description)
    return _imagenet(shape, network)


class _DeepLabV3(nn.Module):
    """torchvision's network with its parameter names; it returns a tensor, not a dictionary."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        maps = self.classifier(self.backbone(images)["out"])
        return functional.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)


def _with_head(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors; a last layer for VOC that does not fit is replaced by the network's."""
    head = {n: t for n, t in network.state_dict().items() if n.startswith("classifier.4.")}
    stored = tensors.get("classifier.4.bias", torch.empty(0))
    fits = len(stored) == len(head["classifier.4.bias"])
    return tensors if fits or len(stored) != VOC_CLASSES else tensors | head


def _voc_weights(backbone: str, key: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    return fetch(get_model_weights(f"deeplabv3_{backbone}").DEFAULT, "DeepLabV3", key)


def small(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: Size = 12,
    rates: Annotated[Sequence[Size], Interval(ge=1, le=100)] = (1, 2, 4),
) -> Segmenter:
    """A DeepLabV3+ small enough to be trained on a CPU in seconds, at output stride 8.

    Four 3x3 convolutions give `width` maps at half the resolution, 2 `width` at a quarter and 4
    `width` at an eighth. The pyramid has one atrous convolution to 2 `width` maps for each of
    `rates`, and a 1x1 convolution combines them. The decoder resizes these to a quarter,
    concatenates the maps of that size, applies one 3x3 convolution and computes logits, which are
    resized to the full resolution. Batch norm and ReLU follow each convolution but the last. 77,824
    parameters for 4 classes. Images are normalised with ImageNet's mean and standard deviation.

    Raises BadInput for sides that are not 32k+1.
    """
    check_sides("segmentation.small", *shape[1:])
    return _imagenet(shape, _Small(shape, classes, width, rates))


class _Small(nn.Module):
    def __init__(self, shape: tuple[int, int, int], classes: int, width: int, rates: Sequence[int]):
        super().__init__()
        depth, *sides = shape
        quarter = 2 * width
        self.stem = nn.Sequential(
            conv_bn_relu(depth, width, stride=2), conv_bn_relu(width, quarter, stride=2)
        )
        self.down = nn.Sequential(
            conv_bn_relu(quarter, 4 * width, stride=2), conv_bn_relu(4 * width, 4 * width)
        )
        self.pyramid = nn.ModuleList(conv_bn_relu(4 * width, quarter, rate=rate) for rate in rates)
        self.project = conv_bn_relu(quarter * len(rates), quarter, kernel=1)
        self.up = _upsample([(side - 1) // 4 + 1 for side in sides])
        self.decode = conv_bn_relu(2 * quarter, quarter)
        self.last = nn.Sequential(nn.Conv2d(quarter, classes, 1), _upsample(sides))

    def forward(self, images: Tensor) -> Tensor:
        low = self.stem(images)
        maps = self.down(low)
        maps = self.project(torch.cat([layer(maps) for layer in self.pyramid], dim=1))
        return self.last(self.decode(torch.cat([self.up(maps), low], dim=1)))


def _imagenet(shape: tuple[int, int, int], network: nn.Module) -> nn.Module:
    """The network after normalisation with ImageNet's mean and standard deviation."""
    return Normalised(Normalise(shape[0], IMAGENET_MEAN, IMAGENET_STD), network)
