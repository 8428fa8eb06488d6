"""Real images, for the tests that read them: the data root is named by ADVDENOISE_DATA."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ["ADVDENOISE_DATA"]) if os.environ.get("ADVDENOISE_DATA") else None


def needs(folder):
    """Skips a test where the data root lacks `folder`; a root need not hold every data set."""
    missing = ROOT is None or not (ROOT / folder).is_dir()
    return pytest.mark.skipif(missing, reason=f"ADVDENOISE_DATA names no folder with {folder}")
