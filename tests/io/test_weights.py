"""Weights of this workflow and their checksums."""

import hashlib
from pathlib import Path

import pytest
import torch

from advdenoise.errors import DamagedFile
from advdenoise.io.weights import read_weights, write_weights
from tests.io.samples import PROVENANCE, write


def test_a_missing_or_different_checksum_is_damage(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path)
    sidecar = Path(f"{path}.sha256")
    assert sidecar.read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    sidecar.write_text("0" * 64)
    with pytest.raises(DamagedFile, match=r"does not match .*x\.safetensors\.sha256"):
        read_weights(path)
    sidecar.unlink()
    with pytest.raises(DamagedFile, match=r"x\.safetensors\.sha256 is missing"):
        read_weights(path)


def test_weights_keep_their_types_whatever_their_strides(tmp_path):
    tensors = {
        "weight": torch.randn(4, 3, requires_grad=True),
        "half": torch.randn(3).half(),
        "transposed": torch.randn(3, 4).T,
        "steps": torch.tensor(7),
        "none": torch.zeros(0, 2),
    }
    write_weights(tmp_path / "x.safetensors", tensors, PROVENANCE)
    read, provenance = read_weights(tmp_path / "x.safetensors")
    assert provenance == PROVENANCE
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
