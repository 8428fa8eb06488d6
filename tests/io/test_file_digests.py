"""Digests differ exactly where what they stand for differs."""

import hashlib
import os

import numpy as np

from advdenoise.io.digests import (
    file_digest,
    file_sha256,
    ids_digest,
    settings_digest,
    sha256,
    state_digest,
)


def test_a_text_has_the_digest_of_its_bytes(tmp_path):
    data = "é".encode()
    (tmp_path / "x").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    assert sha256("é") == sha256(data) == file_sha256(tmp_path / "x") == digest
    assert digest.startswith(file_digest(tmp_path / "x"))


def test_the_order_of_keys_and_ids_does_not_matter():
    assert settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    assert settings_digest({"a": 1, "b": 2}) != settings_digest({"a": 2, "b": 1})
    assert ids_digest(np.array([3, 1])) == ids_digest([1, 3]) != ids_digest([1, 2])
    assert ids_digest([1, 3]).startswith("2-")


def test_a_state_depends_on_settings_code_and_inputs(tmp_path):
    inputs = tmp_path / "a.h5"
    inputs.write_bytes(b"1")
    digest = state_digest({"a": 1}, "code", inputs)
    assert state_digest({"a": 1}, "code", inputs) == digest
    assert state_digest({"a": 2}, "code", inputs) != digest
    assert state_digest({"a": 1}, "other", inputs) != digest
    os.utime(inputs, ns=(0, 0))
    of_old = state_digest({"a": 1}, "code", inputs)
    assert of_old != digest
    inputs.write_bytes(b"22")
    os.utime(inputs, ns=(0, 0))
    assert state_digest({"a": 1}, "code", inputs) not in (digest, of_old)
