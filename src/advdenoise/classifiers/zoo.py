"""Networks of the timm library, by their names there."""

import difflib
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from advdenoise.classifiers._heads import check_head, convolution, with_activation
from advdenoise.errors import BadInput, short
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.checkpoints import load_tensors, read_tensors
from advdenoise.ranges import Pixel, Size, Std

HERE = "zoo.timm_model: settings"
SEE = "`python -c 'import timm; print(timm.list_models())'` names them all"


def timm_model(
    shape: tuple[int, int, int],
    classes: int,
    *,
    model: str,
    pretrained: bool = False,
    weights: str | None = None,
    size: Size | tuple[Size, Size] | None = None,
    mean: Pixel | list[Pixel] | None = 0.5,
    std: Std | list[Std] | None = 0.5,
    stem_stride: Size | None = None,
    head: Literal["linear", "conv", "prelu", "relu"] = "linear",
) -> nn.Module:
    """Any network of timm: float [N,C,H,W] in [0,1] -> logits [N, classes].

    `model` is its name, with or without a tag, also as timm's own repositories have it
    (`hf-hub:timm/resnet18.a1_in1k`). `pretrained` fetches timm's weights (head and first
    layer are then fitted to classes and channels). `weights` reads a local file instead,
    safetensors or a torch state dict: of exactly this network (a classifier's file of this workflow
    is one), or of timm's own, as trained on its own classes, of which the head is then left out.
    `size` is the side, or [height, width], to which images are resized bilinearly first. The
    default `mean` and `std` bring pixels to [-1,1], as "propagation" has it for all its networks;
    null takes the model's own. The network's modules are called `layers.` and their name in timm.

    `stem_stride` is the stride of the first convolution ("propagation", section 2.2, adjusts low
    strides to small images; weights stay the same), null the network's own. `head` is what follows
    the last map: `linear` the network's own, pooling and a dense layer; `conv` one convolution of
    the size of the map in place of both; `prelu` the network's own with a PReLU behind it, one
    slope, 0.25 at first. With 200 classes at 128 pixels densenet201 has 18,477,128 parameters, with
    `conv` 24,237,128, with `prelu` one more. `relu` has plain ReLU there, which did not train.

    Raises BadInput for a name that timm does not know, weights that do not fit or cannot be had,
    a stem or a head that the network cannot have, and images of a size that it does not take;
    DamagedFile for unreadable weights.
    """
    if pretrained and weights:
        raise BadInput(f"{HERE}.weights: stands beside `pretrained: true`; leave one of them out")
    check_head(head, HERE)
    network = _create(model, classes, shape[0], pretrained)
    own = network.pretrained_cfg
    mean = own["mean"] if mean is None else mean
    std = own["std"] if std is None else std
    whole = Normalised(Normalise(shape[0], mean, std, size), network)
    if stem_stride is not None:
        _set_stem_stride(network, model, stem_stride)
    if head == "conv":
        network.reset_classifier(0, "")
    last = _of_black(whole, model, shape, own["input_size"])
    if head != "linear":
        _put_head(network, model, head, last, classes)
    if weights:
        _load(network, Path(weights), model, classes, shape[0])
    return whole.train()


def _create(model: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    # Seconds to import: only where a configuration asks for one of its networks.
    import timm

    owner, _, repository = model.removeprefix("hf-hub:").removeprefix("hf_hub:").rpartition("/")
    if owner not in ("", "timm"):
        raise BadInput(
            f"{HERE}.model: {model!r} is a repository of {owner!r}, and none but timm's own is "
            "read; give the name that the network has in timm, and in `weights` the file"
        )
    model = repository
    if model.partition(".")[0] not in timm.list_models():
        near = difflib.get_close_matches(model, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else SEE
        raise BadInput(f"{HERE}.model: timm has no network {model!r}; {hint}")
    try:
        return timm.create_model(model, pretrained, num_classes=classes, in_chans=channels)
    except Exception as error:  # Of the network, the cache or the tag, each of a type of its own.
        if not pretrained and "." not in model:
            raise
        raise BadInput(
            f"{HERE}.model: weights of {model!r} cannot be had ({short(error)}); name a local "
            "file in `weights`"
        ) from error


def _set_stem_stride(network: nn.Module, model: str, stride: int) -> None:
    name = network.pretrained_cfg.get("first_conv")
    stem = network.get_submodule(name) if isinstance(name, str) else None
    # Where windows do not overlap they are patches, and what follows counts them.
    if not isinstance(stem, nn.Conv2d) or stem.kernel_size <= stem.stride:
        raise BadInput(
            f"{HERE}.stem_stride: {model!r} does not begin with a convolution of overlapping "
            "windows; leave it out"
        )
    if stride < 1:
        raise BadInput(f"{HERE}.stem_stride: {stride} is no stride; give 1 or more")
    stem.stride = (stride, stride)


def _put_head(network: nn.Module, model: str, head: str, last: Tensor, classes: int) -> None:
    """Another head; `last` is what the network gives with its own, for `conv` without any."""
    name = network.pretrained_cfg.get("classifier")
    is_map = last.dim() == 4 and last.shape[1] == network.head_hidden_size
    if not isinstance(name, str) or (head == "conv" and not is_map):
        raise BadInput(
            f"{HERE}.head: {model!r} does not end in one dense layer behind a map of channels, "
            f"rows and columns, so it cannot have the head {head!r}; leave it out"
        )
    if head == "conv":
        network.set_submodule(name, convolution(last.shape[1], tuple(last.shape[2:]), classes))
        network.num_classes = classes
    else:
        network.set_submodule(name, with_activation(network.get_submodule(name), head))


def _load(network: nn.Module, path: Path, model: str, classes: int, channels: int) -> None:
    here = f"{HERE}.weights"
    tensors = _with_head(read_tensors(path, here), network.state_dict(), network.pretrained_cfg)
    load_tensors(
        network, tensors, path, here, f"{model!r} for {classes} classes and {channels} channels"
    )


def _with_head(
    tensors: dict[str, Tensor], wanted: dict[str, Tensor], own: dict
) -> dict[str, Tensor]:
    """What the file holds; in the place of a head for timm's own classes, unless it fits, a new."""
    head = f"{own.get('classifier')}."
    stored = {name: tensor for name, tensor in tensors.items() if name.startswith(head)}
    fits = all(n in wanted and wanted[n].shape == tensor.shape for n, tensor in stored.items())
    if fits or len(stored.get(f"{head}weight", ())) != own["num_classes"]:
        return tensors
    new = {name: tensor for name, tensor in wanted.items() if name.startswith(head)}
    return {name: tensor for name, tensor in tensors.items() if name not in stored} | new


def _of_black(
    network: nn.Module, model: str, shape: tuple[int, int, int], usual: tuple[int, int, int]
) -> Tensor:
    """What the network gives for a black image; many take one size, or sizes from a least one."""
    try:
        with torch.no_grad():
            return network.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BadInput(
            f"{HERE}.size: {model!r} does not take the images of {shape[1]}x{shape[2]} "
            f"({short(error)}); set the side to which they are resized, as {usual[-1]}"
        ) from error
