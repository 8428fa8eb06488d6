"""Segmenters: float [N,3,H,W] in [0,1] -> logits [N, classes, H, W], one class for each pixel."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.classifiers._deeplab import ENCODERS, RATES, FullDeepLab, own_names
from advdenoise.errors import BadInput, short
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.checkpoints import load_tensors, read_tensors
from advdenoise.ranges import Interval, Size
from advdenoise.sides import check_sides

# What a function returns whose networks predict masks: the configuration reads it without a call.
Segmenter = nn.Module

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
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

    The atrous `rates` are those of this output stride, `width` the channels of the pyramid and of
    the decoder, whose low-level branch has 48. Images get ImageNet's mean and standard deviation.

    `decoder` says which convolutions pyramid and decoder have. With `separable` ones the network is
    segmentation-models-pytorch's: 45,674,853 parameters for 21 classes on ResNet-101. With `full`
    ones it is the one that "dapas" attacks, by its clean mIoU of 78.4: that of the repository
    pytorch-deeplab-xception (78.43 on VOC 2012, trained with SBD), whose last residual blocks are
    dilated 2, 4 and 8 times; 59,344,309 parameters, on a ResNet-50, -101 or -152.

    `pretrained` lets the library fetch the encoder's ImageNet weights. `weights` reads a local file
    instead, safetensors or a torch state dict: of exactly this network (a segmenter's file of this
    workflow is one, and with `full` that repository's checkpoint), or of the encoder alone, as
    torchvision's ResNet of ImageNet.

    The upsampling of that library takes multiples of 16 only; here maps are brought to the sides
    that they are added to, 32k+1 giving 16k+1, 8k+1 and so on. Raises BadInput for other sides, an
    encoder that the library does not have and weights that do not fit or cannot be had; DamagedFile
    for unreadable weights.
    """
    here = "segmentation.deeplab_v3_plus: settings"
    check_sides("segmentation.deeplab_v3_plus", *shape[1:])
    if pretrained and weights:
        raise BadInput(f"{here}.weights: stands beside `pretrained: true`; leave one of them out")
    if decoder == "full":
        network = _full(classes, encoder, width, rates, pretrained, here)
    else:
        network = _smp(shape[0], classes, encoder, width, rates, pretrained, here)
        network.requires_divisible_input_shape = False
        sides = [(side - 1) // 4 + 1 for side in shape[1:]]
        network.decoder.up = _to(sides)
        network.segmentation_head[1] = _to(shape[1:])
    if weights:
        _fill(network, Path(weights), f"{here}.weights", f"{encoder!r} for {classes} classes")
    return _imagenet(shape, network)


def _smp(channels, classes, encoder, width, rates, pretrained, here) -> nn.Module:
    # Seconds to import: only where a configuration asks for one of its networks.
    import segmentation_models_pytorch as smp

    if encoder not in smp.encoders.get_encoder_names():
        raise BadInput(
            f"{here}.encoder: segmentation-models-pytorch has no encoder {encoder!r}; its "
            "`encoders.get_encoder_names()` names them all, such as resnet101"
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
    except Exception as error:  # Of the network, the hub or the cache, each of a type of its own.
        if isinstance(error, ValueError):
            raise BadInput(
                f"{here}.encoder: {encoder!r} cannot be had at output stride 16 ({short(error)}); "
                "take another, such as resnet101"
            ) from error
        if not pretrained:
            raise
        raise BadInput(
            f"{here}.pretrained: ImageNet weights of {encoder!r} cannot be had ({short(error)}); "
            "name a local file in `weights`"
        ) from error


def _full(classes, encoder, width, rates, pretrained, here) -> nn.Module:
    if encoder not in ENCODERS:
        raise BadInput(
            f"{here}.encoder: {encoder!r} has no `decoder: full`; take {', '.join(ENCODERS)}"
        )
    network = FullDeepLab(classes, encoder, width, tuple(rates))
    if pretrained:
        from torchvision.models import get_model_weights

        stored = _fetched(lambda: get_model_weights(encoder).IMAGENET1K_V1, f"{encoder!r}", here)
        load_tensors(network.encoder, _without_head(stored), Path(), f"{here}.pretrained", encoder)
    return network


def _without_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _to(sides: Sequence[int]) -> nn.Upsample:
    """To these sides, corner on corner: what lies at 16k+1 of them falls on the k + 1 that were."""
    return nn.Upsample(tuple(sides), mode="bilinear", align_corners=True)


def _fill(network: nn.Module, path: Path, here: str, what: str) -> None:
    """The whole network's weights, or those of its encoder alone."""
    tensors = own_names(read_tensors(path, here))
    if any(name.startswith("encoder.") for name in tensors):
        load_tensors(network, tensors, path, here, what)
    else:
        load_tensors(network.encoder, _without_head(tensors), path, here, f"the encoder {what}")


def deeplab_v3(
    shape: tuple[int, int, int],
    classes: int,
    *,
    backbone: Literal["resnet50", "resnet101"] = "resnet101",
    pretrained: bool = False,
    weights: str | None = None,
) -> Segmenter:
    """torchvision's DeepLabV3 (Chen et al. 2017) at output stride 8, which takes any sides.

    `backbone` is resnet101 (58,630,997 parameters for 21 classes) or resnet50. `pretrained` takes
    torchvision's weights, trained on those images of COCO that hold classes of VOC; `weights` reads
    them, or those of a segmenter's file of this workflow, from a local file instead. For another
    number of classes than VOC's 21 the last layer of torchvision's weights is left out. Images get
    ImageNet's mean and standard deviation.

    Raises BadInput for another backbone and weights that do not fit or cannot be had; DamagedFile
    for unreadable weights.
    """
    here = "segmentation.deeplab_v3: settings"
    if backbone not in BACKBONES:
        raise BadInput(f"{here}.backbone: {backbone!r} is none of {', '.join(BACKBONES)}")
    if pretrained and weights:
        raise BadInput(f"{here}.weights: stands beside `pretrained: true`; leave one of them out")
    from torchvision.models import segmentation as zoo

    made = getattr(zoo, f"deeplabv3_{backbone}")(
        weights=None, weights_backbone=None, num_classes=classes
    )
    network = _DeepLabV3(made.backbone, made.classifier)
    if pretrained or weights:
        tensors = (
            read_tensors(Path(weights), f"{here}.weights") if weights else _of_voc(backbone, here)
        )
        known = {n: t for n, t in tensors.items() if not n.startswith("aux_classifier.")}
        what = f"{backbone!r} for {classes} classes"
        load_tensors(
            network, _with_last(known, network), Path(weights or ""), f"{here}.weights", what
        )
    return _imagenet(shape, network)


class _DeepLabV3(nn.Module):
    """torchvision's, which returns a dictionary, with its names."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        maps = self.classifier(self.backbone(images)["out"])
        return functional.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)


def _with_last(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors; in the place of a last layer for VOC's classes, unless it fits, a new one."""
    last = {n: t for n, t in network.state_dict().items() if n.startswith("classifier.4.")}
    stored = tensors.get("classifier.4.bias", torch.empty(0))
    fits = len(stored) == len(last["classifier.4.bias"])
    return tensors if fits or len(stored) != VOC_CLASSES else tensors | last


def _of_voc(backbone: str, here: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    return _fetched(lambda: get_model_weights(f"deeplabv3_{backbone}").DEFAULT, "DeepLabV3", here)


def _fetched(choose: Callable, what: str, here: str) -> dict[str, Tensor]:
    """Weights of torchvision's, from its cache or the network."""
    try:
        return choose().get_state_dict(progress=False, check_hash=True, map_location="cpu")
    except Exception as error:  # Of the network, the cache or the hash, each of a type of its own.
        raise BadInput(
            f"{here}.pretrained: torchvision's weights of {what} cannot be had "
            f"({short(error)}); name a local copy of the file in `weights`"
        ) from error


def small(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: Size = 12,
    rates: Annotated[Sequence[Size], Interval(ge=1, le=100)] = (1, 2, 4),
) -> Segmenter:
    """A DeepLabV3+ small enough to be trained on a CPU in seconds, at output stride 8.

    Four 3x3 convolutions lead to `width` maps of half the sides, 2 `width` of a quarter and 4
    `width` of an eighth; there is one atrous convolution for each of `rates`, to 2 `width` maps
    each, and a 1x1 convolution puts them together. Brought to a quarter, they get that size's maps
    put beside, go through one 3x3 convolution and become logits, which are brought to full size.
    Batch norm and ReLU follow each but the last. 77,824 parameters for 4 classes. Images get
    ImageNet's mean and standard deviation.

    Raises BadInput for sides that are not 32k+1.
    """
    check_sides("segmentation.small", *shape[1:])
    return _imagenet(shape, _Small(shape, classes, width, rates))


class _Small(nn.Module):
    def __init__(self, shape: tuple[int, int, int], classes: int, width: int, rates: Sequence[int]):
        super().__init__()
        depth, *sides = shape
        quarter = 2 * width
        self.stem = nn.Sequential(_layer(depth, width, stride=2), _layer(width, quarter, stride=2))
        self.down = nn.Sequential(
            _layer(quarter, 4 * width, stride=2), _layer(4 * width, 4 * width)
        )
        self.pyramid = nn.ModuleList(_layer(4 * width, quarter, rate=rate) for rate in rates)
        self.project = _layer(quarter * len(rates), quarter, kernel=1)
        self.up = _to([(side - 1) // 4 + 1 for side in sides])
        self.decode = _layer(2 * quarter, quarter)
        self.last = nn.Sequential(nn.Conv2d(quarter, classes, 1), _to(sides))

    def forward(self, images: Tensor) -> Tensor:
        low = self.stem(images)
        maps = self.down(low)
        maps = self.project(torch.cat([layer(maps) for layer in self.pyramid], dim=1))
        return self.last(self.decode(torch.cat([self.up(maps), low], dim=1)))


def _layer(last: int, out: int, kernel: int = 3, stride: int = 1, rate: int = 1) -> nn.Sequential:
    pad = rate * (kernel // 2)
    convolution = nn.Conv2d(last, out, kernel, stride, pad, dilation=rate, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())


def _imagenet(shape: tuple[int, int, int], network: nn.Module) -> nn.Module:
    """The network behind ImageNet's mean and standard deviation."""
    return Normalised(Normalise(shape[0], IMAGENET_MEAN, IMAGENET_STD), network)
