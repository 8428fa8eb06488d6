"""Small results as JSON, with a checksum."""

import json
from pathlib import Path

from advdenoise.io.digests import sha256
from advdenoise.io.files import damage_error, require_file, write_text


def write_json(path: str | Path, value: dict, provenance: dict) -> None:
    """Writes {"value": value, "provenance": provenance, "sha256": of both}, atomically."""
    # Through JSON first: what a reader will hash has texts for keys and lists for tuples.
    contents = json.loads(json.dumps({"value": value, "provenance": provenance}))
    contents["sha256"] = sha256(_canonical(contents))
    write_text(path, json.dumps(contents, indent=2) + "\n")


def read_json(path: str | Path) -> dict:
    """The `value` that `write_json` was given, checked.

    Raises BadInput where the file is missing, DamagedFile where it is damaged.
    """
    return read_contents(path)["value"]


def read_contents(path: str | Path) -> dict:
    require_file(path)
    try:
        contents = json.loads(Path(path).read_bytes())
        expected = contents.pop("sha256")
        intact = expected == sha256(_canonical(contents))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damage_error(path, error) from error
    if not intact or set(contents) != {"value", "provenance"}:
        raise damage_error(path, "its contents do not match their checksum")
    return contents


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
