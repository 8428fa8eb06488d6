"""Weights that this workflow trained: safetensors, with a SHA-256 in a file beside them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from advdenoise.io.digests import sha256
from advdenoise.io.files import atomic_write, damage_error, require_file, write_text

if TYPE_CHECKING:
    import torch


def write_weights(path: str | Path, tensors: dict[str, "torch.Tensor"], provenance: dict) -> None:
    """Write tensors and, for `sha256sum --check`, `{path}.sha256`."""
    import safetensors.torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain, {"provenance": json.dumps(provenance)})
    with atomic_write(path) as part:
        part.write_bytes(data)
        # First the checksum: weights without one count as damaged.
        write_text(_checksum_file(path), f"{sha256(data)}  {Path(path).name}\n")


def read_weights(path: str | Path) -> tuple[dict[str, "torch.Tensor"], dict]:
    """The tensors by name, on the CPU, and the provenance.

    Raises:
        BadInput: the weights are missing.
        DamagedFile: they or their checksum are damaged, or the checksum is missing.
    """
    import safetensors.torch

    data = _read_checked(path)
    return safetensors.torch.load(data), _provenance(path, data)


def weights_provenance(path: str | Path) -> dict:
    """The provenance of weights; raises as `read_weights`."""
    return _provenance(path, _read_checked(path))


def _checksum_file(path: str | Path) -> Path:
    return Path(f"{path}.sha256")


def _read_checked(path: str | Path) -> bytes:
    require_file(path)
    data = Path(path).read_bytes()
    checksum_file = _checksum_file(path)
    try:
        checksum = checksum_file.read_bytes().split()[:1]
    except FileNotFoundError:
        raise damage_error(path, f"{checksum_file} is missing") from None
    if checksum != [sha256(data).encode()]:
        raise damage_error(path, f"it does not match {checksum_file}")
    return data


def _provenance(path: str | Path, data: bytes) -> dict:
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return json.loads(header["__metadata__"]["provenance"])
    except (ValueError, KeyError, TypeError) as error:
        raise damage_error(path, "it is not a safetensors file of this workflow") from error
