"""The paper's numbers. Apart from `results`: a change of them reruns what imports this module."""

from pathlib import Path

from advdenoise.io.published import Published

PUBLISHED = Published(Path(__file__).parent / "published")
