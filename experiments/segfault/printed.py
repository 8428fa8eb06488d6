"""What the tables of "Segmentation Fault" print, as our claims compute with it."""

from pathlib import Path

import numpy as np

from advdenoise.io.published import Published

from .areas import Source
from .labels import ONE, PIXELS

PUBLISHED = Published(Path(__file__).parent / "published")


def printed_areas() -> Source:
    """The areas of Table 6, with the bytes of 1-D in Table 7 as numbers of segments."""
    values = {}
    for (row, column), line in PUBLISHED.numbers("table6").items():
        attack, name = column.rsplit(" ", 1)
        values[attack, row, name] = np.array([float(line["value"])])
    memory = printed_costs("memory")
    segments = {setting: size for (setting, name), size in memory.items() if name == ONE}
    return Source(values, segments, 0)


def printed_detector_areas(row: str) -> Source:
    """One detector's areas of Table 2, which are those of single pixels."""
    values = {}
    for (detector, column), line in PUBLISHED.numbers("table2").items():
        if detector == row:
            attack, name = column.rsplit(" ", 1)
            values[attack, PIXELS, name] = np.array([float(line["value"])])
    return Source(values, {}, 0)


def printed_costs(metric: str) -> dict[tuple[str, str], float]:
    """Table 7's seconds (`time`) or bytes (`memory`) by setting and representation."""
    return {
        (row, column.rsplit(" ", 1)[1]): float(line["value"])
        for (row, column), line in PUBLISHED.numbers("table7").items()
        if line["metric"] == metric
    }


def published_text(value: float) -> str:
    """A number that follows from printed ones."""
    return f"{value:.3g}"
