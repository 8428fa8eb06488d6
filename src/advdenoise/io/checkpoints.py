"""Weights files of others: what they hold, and whether a network fits them.

No code of such a file is ever run: torch reads tensors alone (`weights_only`).
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput, DamagedFile, short
from advdenoise.ops.files import why_not_readable

# Under which of its names a checkpoint may hold the state dict, the first that is there
_HOLDERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "network_state_dict", "network"),
    *("net_state_dict", "net", "module", "params", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema"),
)
# What wrappers put before each name, and anywhere into it
_PREFIXES = ("module.", "model.", "network.", "net.", "layers.")
_WRAPPED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# What only counts batches: networks do not use it, and files of torch before 0.4.1 lack it.
_COUNTER = "num_batches_tracked"
_NO_TEXT = {*range(9), *range(14, 32), 127}


def read_tensors(path: Path, here: str) -> dict[str, Tensor]:
    """The tensors of a local file, safetensors or a torch state dict, under the network's names.

    The names of wrappers (`module.`, `_orig_mod.`, `model.` and so on) are left out where all
    tensors have them, so is the `layers.` of this workflow's own classifiers. Of a checkpoint the
    state dict is taken, the plain one before an average (`ema`).

    Raises BadInput, which begins with `here`, where there is no such file or it holds something
    else, DamagedFile where it cannot be read.
    """
    path = Path(os.path.expanduser(path))
    if reason := why_not_readable(path):
        raise BadInput(f"{here}: {path} {reason}; give the path of a weights file")
    with path.open("rb") as file:
        start = file.read(64)
    if not _NO_TEXT & {*start}:
        what = f"a text that begins with {start[:40].decode(errors='replace')!r}"
        raise DamagedFile(
            f"{here}: {path} is {what if start else 'empty'} and holds no weights; fetch it again"
        )
    loaded = _safetensors(path, here) if start[8:9] == b"{" else _torch(path, here)
    return _bare(_state_dict(loaded, path, here))


def _safetensors(path: Path, here: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # Of the header, the mapping or a type that torch does not have.
        raise _unreadable(path, here, error) from error


def _torch(path: Path, here: str):
    """What `torch.load` gives of tensors and plain containers."""
    try:
        _check_sizes(path)
        with path.open("rb") as file:  # of a path torch looks at the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # The unpickler's are IndexError, KeyError, struct.error and others.
        script, code = "TorchScript" in str(error), "GLOBAL" in str(error)
        if not (script or code):
            raise _unreadable(path, here, error) from error
        what = "a TorchScript" if script else "a whole network or other objects"
        call = f"torch.{'jit.' * script}load('{path.name}'{', weights_only=False' * code})"
        raise BadInput(
            f"{here}: {path} holds {what}, whose code is not run here; if you trust it, write its "
            f"tensors: `torch.save({call}.state_dict(), 'state.pth')`"
            + f", of a checkpoint `{call}['state_dict']`"
            * code
        ) from error


def _check_sizes(path: Path) -> None:
    """ValueError for an archive that unpacks to far more than it is: torch packs no numbers."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > 10 * path.stat().st_size:
            raise ValueError(f"packed, {path.stat().st_size} bytes of {size}")


def _unreadable(path: Path, here: str, error: Exception) -> DamagedFile:
    return DamagedFile(
        f"{here}: {path} cannot be read ({short(error)}); give safetensors or a torch state dict"
    )


def _state_dict(loaded, path: Path, here: str) -> dict[str, Tensor]:
    """The state dict, out of the dictionaries that hold it, four at most."""
    for _ in range(4):
        inner = [loaded[name] for name in _HOLDERS if name in loaded] if _is_dict(loaded) else []
        loaded = next(filter(_is_dict, inner), loaded)
    if not _is_dict(loaded) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise BadInput(f"{here}: {path} is no state dict; save `network.state_dict()` only")
    if not loaded:
        raise BadInput(f"{here}: {path} holds no tensors; save `network.state_dict()`")
    if strange := [name for name in loaded if not isinstance(name, str)]:
        raise BadInput(
            f"{here}: {path} calls its tensors by other things than names, such as "
            f"{short(repr(strange[0]))}; save `network.state_dict()`"
        )
    return {**loaded}


def _is_dict(loaded) -> bool:
    return isinstance(loaded, Mapping)


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for part in _WRAPPED:
        tensors = {name.replace(part, ""): tensor for name, tensor in tensors.items()}
    tensors.pop("n_averaged", None)  # of torch's AveragedModel
    while shared := [p for p in _PREFIXES if all(name.startswith(p) for name in tensors)]:
        tensors = {name.removeprefix(shared[0]): tensor for name, tensor in tensors.items()}
    return tensors


def load_tensors(
    network: nn.Module, tensors: dict[str, Tensor], path: Path, here: str, what: str
) -> None:
    """Put tensors into a network that has just these; `what` says which one it is.

    A number of any precision is taken. Raises BadInput, which begins with `here` and names `path`,
    where they differ, or where a tensor holds what is no finite number in the network's precision.
    """
    own = network.state_dict()
    counters = {n: t for n, t in own.items() if n.endswith(_COUNTER) and n not in tensors}
    tensors = tensors | counters
    if differing := [
        n for n in sorted(own.keys() | tensors.keys()) if _form(n, tensors) != _form(n, own)
    ]:
        first = ", ".join(
            f"{n} is {_form(n, tensors) or 'missing'} in the file and "
            f"{_form(n, own) or 'not there'} in the network"
            for n in differing[:3]
        )
        more = f" and {len(differing) - 3} more differ" if len(differing) > 3 else ""
        raise BadInput(
            f"{here}: {path} does not hold {what}: {first}{more}; give weights of this network"
        )
    for name, tensor in tensors.items():
        if own[name].is_floating_point() and not _is_finite(tensor.to(own[name].dtype)):
            raise BadInput(
                f"{here}: {path}: {name} holds values that are no finite numbers of "
                f"{own[name].dtype}; give weights of a training that did not diverge"
            )
    network.load_state_dict(tensors)


def _form(name: str, tensors: dict[str, Tensor]) -> str | None:
    """The shape of a tensor, and its type where that is no floating point."""
    if name not in tensors:
        return None
    tensor = tensors[name]
    plain = tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta
    kind = "" if plain or name.endswith(_COUNTER) else f"{tensor.dtype} on {tensor.device} "
    return f"{kind}{tuple(tensor.shape)}"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
