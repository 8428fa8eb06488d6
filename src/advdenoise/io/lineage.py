"""Whether the inputs of a job are those that its settings stand for, and not copied from elsewhere.

Snakemake compares times and a job's own settings; which settings made an input only the input says.
"""

import subprocess
import sys
from pathlib import Path

from advdenoise.errors import BadInput, remedy
from advdenoise.io.digests import settings_digest
from advdenoise.io.provenance import read_provenance


def with_digest(settings: dict, inputs: dict) -> dict:
    """A rule's settings with their digest, as the job's outputs carry them; its inputs are checked.

    Settings written by hand, without `input_digests`, are given back as they are.
    """
    if "input_digests" not in settings:
        return settings
    check(settings, inputs)
    return settings | {"digest": settings_digest(settings)}


def check(settings: dict, inputs: dict) -> None:
    """Compare what made a job's inputs with the `input_digests` of its settings.

    `inputs` are the job's options by name; those are looked at that have digests, a `Path` or
    several. A file of a version that wrote no digest passes if its settings are the expected ones.
    Raises BadInput or DamagedFile with one sentence that names the file, what it was made for and
    what is expected.
    """
    expected = _expected(settings, inputs)
    own = {path: read_provenance(path)["settings"].get("digest") for path in expected}
    others = [path for path in expected if own[path] != expected[path]]
    reasons = _reasons(others) if others else []
    if reasons:
        raise BadInput(reasons[0])
    for path in others:
        if reasons is None and own[path] is None:
            raise BadInput(f"{path}: does not tell what it was made for; {remedy(path)}")
        if own[path] is not None:
            raise BadInput(
                f"{path}: was made for settings of the digest {own[path]}; expected "
                f"{expected[path]}; {remedy(path)}"
            )


def _expected(settings: dict, inputs: dict) -> dict[Path, str]:
    """The digest of each input that a job of the graph makes."""
    expected = {}
    for name, digests in settings.get("input_digests", {}).items():
        files = inputs.get(name)
        files = files if isinstance(files, list) else [files]
        if name in inputs and len(files) != len(digests):
            raise BadInput(f"--{name}: {len(digests)} files are expected, not {len(files)}")
        expected |= dict(zip(files, digests, strict=False))
    return {path: digest for path, digest in expected.items() if path and digest}


def _reasons(paths: list[Path]) -> list[str] | None:
    """What `advdenoise verify` has against the files, a sentence each; None where it cannot tell.

    In a process of its own, for it reads the whole configuration, whose code is none of the job's:
    a change of it is to rerun nothing.
    """
    command = [sys.executable, "-m", "advdenoise", "verify", "--origin", *map(str, paths)]
    answer = subprocess.run(command, capture_output=True, text=True)
    reasons = answer.stdout.splitlines()
    return None if answer.returncode and not reasons else reasons
