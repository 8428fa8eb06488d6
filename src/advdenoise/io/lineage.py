"""Whether a job's inputs were made with the settings that the job expects.

Snakemake compares modification times and a job's own settings, not the settings stored in inputs.
"""

import subprocess
import sys
from pathlib import Path

from advdenoise.errors import BadInput, remedy
from advdenoise.io.digests import settings_digest
from advdenoise.io.provenance import read_provenance


def with_digest(settings: dict, inputs: dict) -> dict:
    """Check a job's inputs and return its settings with their digest, as its outputs store them.

    Settings without `input_digests`, as those written by hand, are returned as they are.
    """
    if "input_digests" not in settings:
        return settings
    check(settings, inputs)
    return settings | {"digest": settings_digest(settings)}


def check(settings: dict, inputs: dict) -> None:
    """Compare the settings stored in a job's inputs with the `input_digests` of its settings.

    `inputs` are the job's options by name, each a `Path` or a list of them; only those with digests
    are checked. A file of a version that stored no digest passes if its settings are as expected.

    Raises:
        BadInput: one sentence with the file, its settings and the expected ones.
        DamagedFile: an input is damaged.
    """
    expected = _expected(settings, inputs)
    stored = {path: read_provenance(path)["settings"].get("digest") for path in expected}
    differing = [path for path in expected if stored[path] != expected[path]]
    problems = _problems(differing) if differing else []
    if problems:
        raise BadInput(problems[0])
    for path in differing:
        if problems is None and stored[path] is None:
            raise BadInput(f"{path}: does not store the settings that made it; {remedy(path)}")
        if stored[path] is not None:
            raise BadInput(
                f"{path}: was made with settings of digest {stored[path]}; expected "
                f"{expected[path]}; {remedy(path)}"
            )


def _expected(settings: dict, inputs: dict) -> dict[Path, str]:
    """The expected digest of each input that a job of the graph writes."""
    expected: dict = {}
    for name, digests in settings.get("input_digests", {}).items():
        files = inputs.get(name)
        files = files if isinstance(files, list) else [files] if files else []
        if name in inputs and len(files) != len(digests):
            raise BadInput(f"--{name}: must be {len(digests)} files, got {len(files)}")
        expected |= dict(zip(files, digests, strict=False))
    return {path: digest for path, digest in expected.items() if path and digest}


def _problems(paths: list[Path]) -> list[str] | None:
    """One sentence on each file that `advdenoise verify` rejects; None if it cannot decide.

    In another process, because it reads the whole configuration, and a job must not depend on the
    code for that.
    """
    command = [sys.executable, "-m", "advdenoise", "verify", "--origin", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    problems = done.stdout.splitlines()
    return None if done.returncode and not problems else problems
