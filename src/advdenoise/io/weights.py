"""Weights that this workflow trained: safetensors with a SHA-256 beside them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from advdenoise.io.digests import sha256
from advdenoise.io.files import atomic_write, damage_error, require_file, write_text

if TYPE_CHECKING:
    import torch


def write_weights(path: str | Path, tensors: dict[str, "torch.Tensor"], provenance: dict) -> None:
    """Writes tensors as safetensors, with `{path}.sha256` (as of `sha256sum`) beside them."""
    import safetensors.torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain, {"provenance": json.dumps(provenance)})
    with atomic_write(path) as part:
        part.write_bytes(data)
        # First the checksum: weights without one would look damaged to their reader.
        write_text(_sidecar(path), f"{sha256(data)}  {Path(path).name}\n")


def read_weights(path: str | Path) -> tuple[dict[str, "torch.Tensor"], dict]:
    """Tensors by name, on the CPU, and provenance.

    Raises BadInput where the weights are missing, DamagedFile where they or their checksum are
    damaged, or where the checksum is missing.
    """
    import safetensors.torch

    data = _verified_weights(path)
    provenance = _header(path, data)
    return safetensors.torch.load(data), provenance


def read_header(path: str | Path) -> dict:
    """The provenance that comes with checked weights."""
    return _header(path, _verified_weights(path))


def _sidecar(path: str | Path) -> Path:
    return Path(f"{path}.sha256")


def _verified_weights(path: str | Path) -> bytes:
    require_file(path)
    data = Path(path).read_bytes()
    try:
        expected = _sidecar(path).read_bytes().split()[:1]
    except FileNotFoundError:
        raise damage_error(path, f"{_sidecar(path)} is missing") from None
    if expected != [sha256(data).encode()]:
        raise damage_error(path, f"it does not match {_sidecar(path)}")
    return data


def _header(path: str | Path, data: bytes) -> dict:
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return json.loads(header["__metadata__"]["provenance"])
    except (ValueError, KeyError, TypeError) as error:
        raise damage_error(path, "it is no safetensors file of this workflow") from error
