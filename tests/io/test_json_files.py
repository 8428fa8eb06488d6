"""Small results as JSON."""

import json

from advdenoise.io.json_files import read_json, write_json
from tests.io.samples import PROVENANCE


def test_keys_and_numbers(tmp_path):
    value = {"mean": 0.1, 10: (1, 2), 9: None, "large": 1e300}
    write_json(tmp_path / "x.json", value, PROVENANCE)
    read = read_json(tmp_path / "x.json")
    assert read == {"mean": 0.1, "10": [1, 2], "9": None, "large": 1e300}
    parts = json.loads((tmp_path / "x.json").read_text())
    assert parts.keys() == {"value", "provenance", "sha256"}
