"""Weights files of others: what they hold, and whether a network fits them."""

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.advdenoise.errors import BadInput, DamagedFile


def read(path: Path, here: str) -> dict[str, Tensor]:
    """The tensors of a local file, safetensors or a torch state dict, under the names there.

    A file of this workflow's own classifiers gives them without the `layers.` before each. Raises
    BadInput, which begins with `here`, where there is no such file or it holds something else,
    DamagedFile where it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise BadInput(f"{here}: there is no file {path}; give the path of a weights file")
    try:
        if path.suffix == ".safetensors":
            return _bare(load_file(path))
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise DamagedFile(
            f"{here}: {path} cannot be read ({short(error)}); give safetensors or a torch state "
            "dict"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise BadInput(f"{here}: {path} is no state dict; save `network.state_dict()` only")
    return _bare(tensors)


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("layers.") for name in tensors):
        return {name.removeprefix("layers."): tensor for name, tensor in tensors.items()}
    return tensors


def put(network: nn.Module, tensors: dict[str, Tensor], path: Path, here: str, what: str) -> None:
    """Put tensors into a network that has just these; `what` says which one it is.

    Raises BadInput, which begins with `here` and names `path`, where they differ.
    """
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        there = tuple(tensors[name].shape) if name in tensors else "missing"
        needed = tuple(wanted[name].shape) if name in wanted else "not there"
        if there != needed:
            raise BadInput(
                f"{here}: {path} does not hold {what}: {name} is {there} in the file and {needed} "
                "in the network; give weights of this network"
            )
    network.load_state_dict(tensors)


def short(error: Exception) -> str:
    """The beginning of an error's first line."""
    return str(error).strip().partition("\n")[0][:120] or type(error).__name__
