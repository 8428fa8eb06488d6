"""VGG-16 (Simonyan and Zisserman 2015) for small images: the loss network of "feature losses"."""

from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Literal

from torch import Tensor, nn

from advdenoise.classifiers._pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_one_source,
    fetch,
)
from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.checkpoints import read_tensors
from advdenoise.io.digests import file_sha256
from advdenoise.ranges import Interval, Size

KEY = "vgg.vgg16: settings"
# Convolutions of the five blocks, and their width as a multiple of the first.
BLOCKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
# The first digits of the SHA-256 of torchvision's file vgg16-397923af.pth.
SHA256 = "397923af"


def vgg16(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: Size = 64,
    size: Annotated[int, Interval(ge=32, le=65536)] = 32,
    resize: Literal["pad", "bilinear"] = "pad",
    batch_norm: bool = False,
    pretrained: bool = False,
    weights: str | None = None,
) -> nn.Module:
    """The 13 convolutions of VGG-16 and one dense layer: [N,C,H,W] in [0,1] -> logits [N, classes].

    Grey images are repeated to three channels, and images are normalised with ImageNet's mean and
    standard deviation. Blocks of 2, 2, 3, 3 and 3 3x3 convolutions have 1, 2, 4, 8 and 8 times
    `width` channels, each followed by a 2x2 max-pool; one dense layer after global average pooling
    (1x1 at size 32) replaces the original's three. Modules have the names of the literature:
    `layers.conv5_3`, `layers.relu5_3`, `layers.pool5`. At width 64 the convolutions have 14,714,688
    weights, and an image of 32x32 has maps of 256x8x8 after `relu3_2`, 512x4x4 after `relu4_2` and
    512x2x2 after `relu5_3`.

    Weights are initialised as in He et al. 2015, biases with zeros. It trains from scratch with
    Adam rather than SGD, and at full width with a learning rate of 3e-4 rather than 1e-3.

    Args:
        size: side to which images are brought, at least 32.
        resize: how: `pad` by a border of black pixels, or `bilinear`.
        batch_norm: batch norm after each convolution, which takes fewer epochs to train.
        pretrained: fetch torchvision's ImageNet weights of the convolutions (width 64, no batch
            norm); the dense layer is new.
        weights: a local copy of torchvision's file vgg16-397923af.pth instead.

    Raises:
        BadInput: images that do not fit, settings that exclude each other, weights that cannot be
            fetched or are not torchvision's.
        DamagedFile: weights that cannot be read.
    """
    _check(shape, width, size, resize, batch_norm, pretrained, weights)
    layers = OrderedDict(_resize(shape, size, resize))
    if shape[0] == 1:
        layers["colour"] = _Colour()
    layers["imagenet"] = Normalise(3, IMAGENET_MEAN, IMAGENET_STD)
    features = OrderedDict(_features(width, batch_norm))
    if pretrained or weights:
        _load(nn.Sequential(features), _tensors(weights))
    layers |= features
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(8 * width, classes)
    return Normalised(Normalise(shape[0]), nn.Sequential(layers))


class _Colour(nn.Module):
    """[N,1,H,W] -> [N,3,H,W] with equal channels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


def _check(shape, width, size, resize, batch_norm, pretrained, weights) -> None:
    depth, height, side = shape
    if depth not in (1, 3):
        raise BadInput(
            f"vgg.vgg16: images must have 1 or 3 channels, got {depth}; choose another classifier "
            "for this data set"
        )
    if size < 32:
        raise BadInput(f"{KEY}.size: must be at least 32 for five poolings, got {size}")
    if resize not in ("pad", "bilinear"):
        raise BadInput(f"{KEY}.resize: must be pad or bilinear, got {resize!r}")
    if resize == "pad" and max(height, side) > size:
        raise BadInput(
            f"{KEY}.size: images of {height}x{side} cannot be padded to {size}; use a larger size "
            "or `resize: bilinear`"
        )
    check_one_source(KEY, pretrained, weights)
    if (pretrained or weights) and (width != 64 or batch_norm):
        raise BadInput(
            f"{KEY}: ImageNet weights are for width 64 without batch norm; leave out `width` and "
            "`batch_norm`, or the weights"
        )


def _resize(shape, size: int, resize: str):
    """The name and the module that bring images to `size` x `size`, if any is needed."""
    _, height, side = shape
    if (height, side) == (size, size):
        return
    if resize == "bilinear":
        yield "resize", nn.Upsample((size, size), mode="bilinear")
        return
    down, right = size - height, size - side
    border = (right // 2, right - right // 2, down // 2, down - down // 2)
    yield "resize", nn.ZeroPad2d(border)


def _features(width: int, batch_norm: bool):
    """The convolutions and the layers between them, by name."""
    c_in = 3
    for block, (convolutions, factor) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            name = f"{block}_{number}"
            convolution = nn.Conv2d(c_in, factor * width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
            yield f"conv{name}", convolution
            if batch_norm:
                yield f"bn{name}", nn.BatchNorm2d(factor * width)
            yield f"relu{name}", nn.ReLU()
            c_in = factor * width
        yield f"pool{block}", nn.MaxPool2d(2)


def _load(features: nn.Sequential, tensors: dict[str, Tensor]) -> None:
    """Load torchvision's weights, named `features.` and an index, into the convolutions."""
    named = {}
    for i, (name, module) in enumerate(features.named_children()):
        for weight, _ in module.named_parameters():
            named[f"{name}.{weight}"] = tensors[f"features.{i}.{weight}"]
    features.load_state_dict(named)


def _tensors(weights: str | None) -> dict[str, Tensor]:
    """The tensors of torchvision's VGG-16 for ImageNet, fetched or from a local file."""
    if weights is None:
        # Imported here because it takes seconds.
        from torchvision.models import VGG16_Weights

        file = f"its file vgg16-{SHA256}.pth"
        return fetch(VGG16_Weights.IMAGENET1K_V1, "VGG-16", KEY, file)
    tensors = read_tensors(Path(weights), f"{KEY}.weights")
    digest = file_sha256(Path(weights).expanduser())
    if not digest.startswith(SHA256):
        raise BadInput(
            f"{KEY}.weights: {weights} is not torchvision's vgg16-{SHA256}.pth: its SHA-256 "
            f"begins with {digest[:8]}; give a whole copy of that file"
        )
    return tensors
