"""Weights files from elsewhere: their tensors, and loading these into a network.

No code in such a file is run: torch reads only tensors and plain containers (`weights_only`).
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput, DamagedFile, short
from advdenoise.ops.files import why_not_readable

# Keys of a checkpoint that may hold the state dict; the first one present is used
_STATE_DICT_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "network_state_dict", "network"),
    *("net_state_dict", "net", "module", "params", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema"),
)
# Parts of names that wrappers add, at the start and anywhere
_PREFIXES = ("module.", "model.", "network.", "net.", "layers.")
_INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# A count of batches, which networks do not use and files of torch before 0.4.1 do not have.
_COUNTER = "num_batches_tracked"
_NO_TEXT = {*range(9), *range(14, 32), 127}  # bytes that no text has


def read_tensors(path: Path, here: str) -> dict[str, Tensor]:
    """Read the tensors of a local file, safetensors or a torch state dict, by name.

    Prefixes of wrappers (`module.`, `_orig_mod.`, `model.` and so on) that all names share are
    removed, also the `layers.` of this workflow's own classifiers. Of a checkpoint the state dict
    is read, the plain one rather than an average (`ema`).

    Raises:
        BadInput: the file is missing or holds something else; the message begins with `here`.
        DamagedFile: it cannot be read.
    """
    path = Path(os.path.expanduser(path))
    if reason := why_not_readable(path):
        raise BadInput(f"{here}: {path} {reason}; give the path of a weights file")
    with path.open("rb") as file:
        start = file.read(64)
    if not _NO_TEXT & {*start}:
        text = f"a text that begins with {start[:40].decode(errors='replace')!r}"
        raise DamagedFile(
            f"{here}: {path} is {text if start else 'empty'}, not weights; download it again"
        )
    loaded = _safetensors(path, here) if start[8:9] == b"{" else _torch(path, here)
    return _unwrapped(_state_dict(loaded, path, here))


def _safetensors(path: Path, here: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # of the header, the mapping, or a type unknown to torch
        raise _unreadable(path, here, error) from error


def _torch(path: Path, here: str):
    """Tensors in plain containers, as `torch.load` returns them."""
    try:
        _check_sizes(path)
        with path.open("rb") as file:  # for a path, torch looks at the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises IndexError, KeyError, struct.error, ...
        script, code = "TorchScript" in str(error), "GLOBAL" in str(error)
        if not (script or code):
            raise _unreadable(path, here, error) from error
        what = "a TorchScript" if script else "a whole network or other objects"
        call = f"torch.{'jit.' * script}load('{path.name}'{', weights_only=False' * code})"
        raise BadInput(
            f"{here}: {path} holds {what}, whose code is not run; if you trust it, write its "
            f"tensors: `torch.save({call}.state_dict(), 'state.pth')`"
            + f", of a checkpoint `{call}['state_dict']`"
            * code
        ) from error


def _check_sizes(path: Path) -> None:
    """Raises ValueError if an archive would unpack to far more bytes: torch compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > 10 * path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes, compressed from {size}")


def _unreadable(path: Path, here: str, error: Exception) -> DamagedFile:
    return DamagedFile(
        f"{here}: {path} cannot be read ({short(error)}); give safetensors or a torch state dict"
    )


def _state_dict(loaded, path: Path, here: str) -> dict[str, Tensor]:
    """The state dict, inside at most four nested dictionaries."""
    for _ in range(4):
        inner = [loaded[k] for k in _STATE_DICT_KEYS if k in loaded] if _is_dict(loaded) else []
        loaded = next(filter(_is_dict, inner), loaded)
    if not _is_dict(loaded) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise BadInput(f"{here}: {path} is not a state dict; save `network.state_dict()` only")
    if not loaded:
        raise BadInput(f"{here}: {path} holds no tensors; save `network.state_dict()`")
    if others := [name for name in loaded if not isinstance(name, str)]:
        raise BadInput(
            f"{here}: {path} has keys that are not names, such as {short(repr(others[0]))}; save "
            "`network.state_dict()`"
        )
    return {**loaded}


def _is_dict(loaded) -> bool:
    return isinstance(loaded, Mapping)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for part in _INFIXES:
        tensors = {name.replace(part, ""): tensor for name, tensor in tensors.items()}
    tensors.pop("n_averaged", None)  # of torch's AveragedModel
    while common := [p for p in _PREFIXES if all(name.startswith(p) for name in tensors)]:
        tensors = {name.removeprefix(common[0]): tensor for name, tensor in tensors.items()}
    return tensors


def load_checkpoint(network: nn.Module, path: Path, here: str, what: str) -> None:
    """Load a local file into a network, described by `what`, as `load_tensors` does.

    Prefixes that all names of the file or of the network share may differ.
    """
    own = [*network.state_dict()]
    names = dict(zip(_unwrapped(dict.fromkeys(own)), own, strict=True))
    tensors = {names.get(name, name): tensor for name, tensor in read_tensors(path, here).items()}
    load_tensors(network, tensors, path, here, what)


def load_tensors(
    network: nn.Module, tensors: dict[str, Tensor], path: Path, here: str, what: str
) -> None:
    """Load tensors of any floating-point type into a network, described by `what`.

    Raises:
        BadInput: names or shapes differ, or a value is not finite in the network's precision; the
            message begins with `here` and names `path`.
    """
    own = network.state_dict()
    counters = {n: t for n, t in own.items() if n.endswith(_COUNTER) and n not in tensors}
    tensors = tensors | counters
    if differing := [
        n for n in sorted(own.keys() | tensors.keys()) if _form(n, tensors) != _form(n, own)
    ]:
        first = ", ".join(
            f"{n} is {_form(n, tensors) or 'missing'} in the file and "
            f"{_form(n, own) or 'missing'} in the network"
            for n in differing[:3]
        )
        more = f" and {len(differing) - 3} more differ" if len(differing) > 3 else ""
        raise BadInput(
            f"{here}: {path} does not hold {what}: {first}{more}; give weights of this network"
        )
    for name, tensor in tensors.items():
        if own[name].is_floating_point() and not _is_finite(tensor.to(own[name].dtype)):
            raise BadInput(
                f"{here}: {path}: {name} has values that are not finite in {own[name].dtype}; give "
                "weights of a training that did not diverge"
            )
    network.load_state_dict(tensors)


def _form(name: str, tensors: dict[str, Tensor]) -> str | None:
    """The shape of a tensor, and its type and device unless it is a plain floating-point one."""
    if name not in tensors:
        return None
    tensor = tensors[name]
    plain = tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta
    kind = "" if plain or name.endswith(_COUNTER) else f"{tensor.dtype} on {tensor.device} "
    return f"{kind}{tuple(tensor.shape)}"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
