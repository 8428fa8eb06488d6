"""Networks of the timm library, by their names there."""

import difflib
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.advdenoise.classifiers._normalise import Normalise, Normalised
from scripts.advdenoise.errors import BadInput, DamagedFile

HERE = "zoo.timm_model: settings"
SEE = "`python -c 'import timm; print(timm.list_models())'` names them all"


def timm_model(
    shape: tuple[int, int, int],
    classes: int,
    *,
    model: str,
    pretrained: bool = False,
    weights: str | None = None,
    size: int | list[int] | None = None,
    mean: float | list[float] | None = 0.5,
    std: float | list[float] | None = 0.5,
) -> nn.Module:
    """Any network of timm: float [N,C,H,W] in [0,1] -> logits [N, classes].

    `model` is its name, with or without a tag. `pretrained` fetches timm's weights (head and first
    layer are then fitted to classes and channels), `weights` reads a local file instead:
    safetensors or a torch state dict of exactly this network. `size` is the side, or [height,
    width], to which images are resized bilinearly first. The default `mean` and `std` bring pixels
    to [-1,1], as "propagation" has it for all its networks; null takes the model's own. The
    network's modules are called `layers.` and their name in timm.

    Raises BadInput for a name that timm does not know, weights that do not fit or cannot be had,
    and images of a size that the network does not take; DamagedFile for unreadable weights.
    """
    if pretrained and weights:
        raise BadInput(f"{HERE}.weights: stands beside `pretrained: true`; leave one of them out")
    network = _create(model, classes, shape[0], pretrained)
    if weights:
        _load(network, Path(weights), model, classes, shape[0])
    own = network.pretrained_cfg
    mean = own["mean"] if mean is None else mean
    std = own["std"] if std is None else std
    whole = Normalised(Normalise(shape[0], mean, std, size), network)
    _check_size(whole, model, shape, own["input_size"])
    return whole


def _create(model: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    # Seconds to import: only where a configuration asks for one of its networks.
    import timm

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
            f"{HERE}.model: weights of {model!r} cannot be had ({_short(error)}); name a local "
            "file in `weights`"
        ) from error


def _load(network: nn.Module, path: Path, model: str, classes: int, channels: int) -> None:
    tensors, wanted = _read(path), network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        there = shapes.get(name, "missing")
        needed = tuple(wanted[name].shape) if name in wanted else "not there"
        if there != needed:
            raise BadInput(
                f"{HERE}.weights: {path} does not hold {model!r} for {classes} classes and "
                f"{channels} channels: {name} is {there} in the file and {needed} in the network; "
                "give weights of this network"
            )
    network.load_state_dict(tensors)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise BadInput(f"{HERE}.weights: there is no file {path}; give the path of a weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise DamagedFile(
            f"{HERE}.weights: {path} cannot be read ({_short(error)}); give safetensors or a torch "
            "state dict"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise BadInput(f"{HERE}.weights: {path} is no state dict; save `network.state_dict()` only")
    return tensors


def _check_size(
    network: nn.Module, model: str, shape: tuple[int, int, int], usual: tuple[int, int, int]
) -> None:
    """Many networks take one size, or sizes from a least one; they say so when they run."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BadInput(
            f"{HERE}.size: {model!r} does not take the images of {shape[1]}x{shape[2]} "
            f"({_short(error)}); set the side to which they are resized, as {usual[-1]}"
        ) from error
    network.train()


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120] or type(error).__name__
