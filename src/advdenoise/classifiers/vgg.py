"""VGG-16 (Simonyan and Zisserman 2015) for small images: the loss network of "feature losses"."""

from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Literal

from torch import Tensor, nn

from advdenoise.errors import BadInput, short
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.checkpoints import read_tensors
from advdenoise.io.digests import file_sha256
from advdenoise.ranges import Interval, Size

HERE = "vgg.vgg16: settings"
# Convolutions of the five blocks and the width of each, as a multiple of the first.
BLOCKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# How the SHA-256 of torchvision's file vgg16-397923af.pth begins.
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

    Grey images are repeated to three channels; images are brought to `size` x `size`, by a border
    of black pixels (`resize: pad`) or bilinearly (`bilinear`), and get ImageNet's mean and standard
    deviation. Blocks of 2, 2, 3, 3 and 3 3x3 convolutions have `width`, 2, 4, 8 and 8 `width`
    channels, a 2x2 max-pool after each block; the average over the last map (1x1 at size 32) goes
    into the dense layer, in the place of the original's three. Modules carry the names of the
    literature: `layers.conv5_3`, `layers.relu5_3`, `layers.pool5`. At width 64 the convolutions
    hold 14,714,688 weights, and an image of 32x32 has maps of 256x8x8 behind `relu3_2`, 512x4x4
    behind `relu4_2` and 512x2x2 behind `relu5_3`.

    Weights start as He et al. 2015 have it, biases at zero: so it learns from scratch, by Adam
    rather than by SGD, at full width with a rate of 3e-4 and not of 1e-3. `batch_norm` puts batch
    norm behind each convolution: it then learns in fewer epochs. `pretrained` takes torchvision's
    ImageNet weights of the convolutions (width 64, no batch norm), `weights` reads them from a
    local copy of its file vgg16-397923af.pth instead; the dense layer is new.

    Raises BadInput for images that do not fit, settings that exclude each other and weights that
    cannot be had or are others; DamagedFile where the weights cannot be read.
    """
    _check(shape, width, size, resize, batch_norm, pretrained, weights)
    layers = OrderedDict(_fit(shape, size, resize))
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
    """[N,1,H,W] -> [N,3,H,W], all channels the same."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


def _check(shape, width, size, resize, batch_norm, pretrained, weights) -> None:
    depth, height, side = shape
    if depth not in (1, 3):
        raise BadInput(
            f"vgg.vgg16 takes images of 1 or 3 channels, these have {depth}; choose another "
            "classifier for this data set"
        )
    if size < 32:
        raise BadInput(f"{HERE}.size: {size} is too small for five halvings; give at least 32")
    if resize not in ("pad", "bilinear"):
        raise BadInput(f"{HERE}.resize: {resize!r} is unknown; take pad or bilinear")
    if resize == "pad" and max(height, side) > size:
        raise BadInput(
            f"{HERE}.size: images of {height}x{side} cannot be padded to {size}; give a larger "
            "size or `resize: bilinear`"
        )
    if pretrained and weights:
        raise BadInput(f"{HERE}.weights: stands beside `pretrained: true`; leave one of them out")
    if (pretrained or weights) and (width != 64 or batch_norm):
        raise BadInput(
            f"{HERE}: ImageNet weights are those of width 64 without batch norm; leave `width` and "
            "`batch_norm` out, or the weights"
        )


def _fit(shape, size: int, resize: str):
    """The module that brings images to `size` x `size`, by name, where there is need of one."""
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
    """The convolutions and what stands between them, by name."""
    last = 3
    for block, (convolutions, factor) in enumerate(BLOCKS, start=1):
        for number in range(1, convolutions + 1):
            name = f"{block}_{number}"
            convolution = nn.Conv2d(last, factor * width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
            yield f"conv{name}", convolution
            if batch_norm:
                yield f"bn{name}", nn.BatchNorm2d(factor * width)
            yield f"relu{name}", nn.ReLU()
            last = factor * width
        yield f"pool{block}", nn.MaxPool2d(2)


def _load(features: nn.Sequential, tensors: dict[str, Tensor]) -> None:
    """Put torchvision's weights, which it calls `features.` and a place, into the convolutions."""
    named = {}
    for place, (name, module) in enumerate(features.named_children()):
        for weight, _ in module.named_parameters():
            named[f"{name}.{weight}"] = tensors[f"features.{place}.{weight}"]
    features.load_state_dict(named)


def _tensors(weights: str | None) -> dict[str, Tensor]:
    """torchvision's VGG-16 of ImageNet: fetched, or from a local file."""
    if weights is None:
        return _fetch()
    tensors = read_tensors(Path(weights), f"{HERE}.weights")
    digest = file_sha256(Path(weights).expanduser())
    if not digest.startswith(SHA256):
        raise BadInput(
            f"{HERE}.weights: {weights} is not torchvision's vgg16-{SHA256}.pth: its SHA-256 "
            f"begins with {digest[:8]}; give a whole copy of that file"
        )
    return tensors


def _fetch() -> dict[str, Tensor]:
    # Seconds to import: only where its weights are asked for.
    from torchvision.models import VGG16_Weights

    try:
        return VGG16_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, map_location="cpu"
        )
    except Exception as error:  # Of the network, the cache or the hash, each of a type of its own.
        raise BadInput(
            f"{HERE}.pretrained: torchvision's weights of VGG-16 cannot be had ({short(error)}); "
            f"name a local copy of its file vgg16-{SHA256}.pth in `weights`"
        ) from error
