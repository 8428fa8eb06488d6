"""Networks of the timm library."""

import difflib
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from advdenoise.classifiers._heads import check_head, convolution, with_activation
from advdenoise.classifiers._pretrained import check_one_source
from advdenoise.errors import BadInput, short
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.checkpoints import load_tensors, read_tensors
from advdenoise.ranges import Pixel, Size, Std

KEY = "zoo.timm_model: settings"
LIST_ALL = "`python -c 'import timm; print(timm.list_models())'` lists all networks"


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

    The network's modules are named `layers.` and their name in timm.

    Args:
        model: timm's name, with or without a tag, also as a repository of timm
            (`hf-hub:timm/resnet18.a1_in1k`).
        pretrained: fetch timm's weights; head and first layer are adapted to classes and channels.
        weights: a local file instead, safetensors or a torch state dict: of exactly this network,
            as this workflow writes it, or of timm's for its own classes, without the head.
        size: side, or [height, width], to which images are resized first (bilinear).
        mean, std: normalisation in pixel units; the defaults bring pixels to [-1,1], as
            Yoon et al. 2019 do for all networks; null takes the model's own.
        stem_stride: stride of the first convolution; null takes the model's own. (Yoon et al.
            2019, section 2.2, lower it for small images; weights do not depend on it.)
        head: what follows the last map. `linear` is the model's own pooling and dense layer; `conv`
            replaces both by one convolution with the size of the map; `prelu` appends a PReLU with
            one slope, initially 0.25; `relu` appends a ReLU, which did not train. densenet201 with
            200 classes at 128 pixels has 18,477,128 parameters, with `conv` 24,237,128, with
            `prelu` one more.

    Raises:
        BadInput: an unknown name, weights that do not fit or cannot be fetched, a stem or a head
            that the network cannot have, images of a size that it does not accept.
        DamagedFile: weights that cannot be read.
    """
    check_one_source(KEY, pretrained, weights)
    check_head(head, KEY)
    network = _create(model, classes, shape[0], pretrained)
    config = network.pretrained_cfg
    mean = config["mean"] if mean is None else mean
    std = config["std"] if std is None else std
    classifier = Normalised(Normalise(shape[0], mean, std, size), network)
    if stem_stride is not None:
        _set_stem_stride(network, model, stem_stride)
    if head == "conv":
        network.reset_classifier(0, "")
    output = _black_image_output(classifier, model, shape, config["input_size"])
    if head != "linear":
        _replace_head(network, model, head, output, classes)
    if weights:
        _load(network, Path(weights), model, classes, shape[0])
    return classifier.train()


def _create(model: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    # Imported here because it takes seconds.
    import timm

    owner, _, repository = model.removeprefix("hf-hub:").removeprefix("hf_hub:").rpartition("/")
    if owner not in ("", "timm"):
        raise BadInput(
            f"{KEY}.model: {model!r} is a repository of {owner!r}, but only timm's own are read; "
            "use the network's name in timm, and `weights` for the file"
        )
    model = repository
    if model.partition(".")[0] not in timm.list_models():
        matches = difflib.get_close_matches(model, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(map(repr, matches))}?" if matches else LIST_ALL
        raise BadInput(f"{KEY}.model: timm has no network {model!r}; {hint}")
    try:
        return timm.create_model(model, pretrained, num_classes=classes, in_chans=channels)
    except Exception as error:  # Network, cache and tag each raise a type of their own.
        if not pretrained and "." not in model:
            raise
        raise BadInput(
            f"{KEY}.model: weights of {model!r} cannot be fetched ({short(error)}); name a local "
            "file in `weights`"
        ) from error


def _set_stem_stride(network: nn.Module, model: str, stride: int) -> None:
    name = network.pretrained_cfg.get("first_conv")
    stem = network.get_submodule(name) if isinstance(name, str) else None
    # Windows that do not overlap are patches, whose number the following layers depend on.
    if not isinstance(stem, nn.Conv2d) or stem.kernel_size <= stem.stride:
        raise BadInput(
            f"{KEY}.stem_stride: {model!r} does not begin with a convolution of overlapping "
            "windows; leave it out"
        )
    if stride < 1:
        raise BadInput(f"{KEY}.stem_stride: must be at least 1, got {stride}")
    stem.stride = (stride, stride)


def _replace_head(network: nn.Module, model: str, head: str, output: Tensor, classes: int) -> None:
    """Replace the head; `output` is that of the network, for `conv` without a head."""
    name = network.pretrained_cfg.get("classifier")
    is_map = output.dim() == 4 and output.shape[1] == network.head_hidden_size
    if not isinstance(name, str) or (head == "conv" and not is_map):
        raise BadInput(
            f"{KEY}.head: {model!r} does not end in one dense layer after a map of channels, rows "
            f"and columns, so it cannot have the head {head!r}; leave it out"
        )
    if head == "conv":
        network.set_submodule(name, convolution(output.shape[1], tuple(output.shape[2:]), classes))
        network.num_classes = classes
    else:
        network.set_submodule(name, with_activation(network.get_submodule(name), head))


def _load(network: nn.Module, path: Path, model: str, classes: int, channels: int) -> None:
    key = f"{KEY}.weights"
    tensors = _with_head(read_tensors(path, key), network.state_dict(), network.pretrained_cfg)
    load_tensors(
        network, tensors, path, key, f"{model!r} for {classes} classes and {channels} channels"
    )


def _with_head(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], config: dict
) -> dict[str, Tensor]:
    """The tensors; a head for timm's classes that does not fit is replaced by the network's."""
    head = f"{config.get('classifier')}."
    stored = {name: tensor for name, tensor in tensors.items() if name.startswith(head)}
    fits = all(n in expected and expected[n].shape == tensor.shape for n, tensor in stored.items())
    if fits or len(stored.get(f"{head}weight", ())) != config["num_classes"]:
        return tensors
    new = {name: tensor for name, tensor in expected.items() if name.startswith(head)}
    return {name: tensor for name, tensor in tensors.items() if name not in stored} | new


def _black_image_output(
    network: nn.Module, model: str, shape: tuple[int, int, int], default_size: tuple[int, int, int]
) -> Tensor:
    """The output for a black image; many networks accept one size only, or have a minimum."""
    try:
        with torch.no_grad():
            return network.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BadInput(
            f"{KEY}.size: {model!r} does not accept images of {shape[1]}x{shape[2]} "
            f"({short(error)}); set the side to which they are resized, such as {default_size[-1]}"
        ) from error
