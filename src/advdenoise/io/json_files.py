"""Small results as JSON, with a checksum."""

import json
from pathlib import Path

from advdenoise.io.digests import sha256
from advdenoise.io.files import damage_error, require_file, write_text


def write_json(path: str | Path, value: dict, provenance: dict) -> None:
    """Write {"value": value, "provenance": provenance, "sha256": of both}, atomically."""
    # As a reader will see them: keys are texts, and tuples are lists.
    contents = json.loads(json.dumps({"value": value, "provenance": provenance}))
    contents["sha256"] = _checksum(contents)
    write_text(path, json.dumps(contents, indent=2) + "\n")


def read_json(path: str | Path) -> dict:
    """The checked `value` of a file of `write_json`.

    Raises:
        BadInput: the file is missing.
        DamagedFile: it is damaged.
    """
    return read_contents(path)["value"]


def read_contents(path: str | Path) -> dict:
    """The checked `value` and `provenance`; raises as `read_json`."""
    require_file(path)
    try:
        contents = json.loads(Path(path).read_bytes())
        checksum = contents.pop("sha256")
        intact = checksum == _checksum(contents)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damage_error(path, error) from error
    if not intact or set(contents) != {"value", "provenance"}:
        raise damage_error(path, "its contents do not match their checksum")
    return contents


def _checksum(contents: dict) -> str:
    return sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")))
