"""The propagation explorer: how far noise travels, and what classifier and detector make of it."""

from typing import Literal

from scripts.advdenoise.tables import _explorer
from scripts.advdenoise.tables._cells import Rows
from scripts.advdenoise.tables._read import Results


def rows(
    distances: Results,
    predictions: Results,
    detection: Results | None = None,
    *,
    protocol: Literal["paper", "grouped"] = "grouped",
    representation: Literal["predicted", "probabilities", "hidden"] = "probabilities",
) -> Rows:
    """Distances, predictions and detectors' scores of the same images, joined.

    A row for each image, threat, purifier and layer. `protocol` and `representation` are those
    under which detectors gave the scores; what was not computed for an image is null, and without
    `detection` there are no scores.
    """
    return Rows(_explorer.joined(distances, predictions, detection, protocol, representation))
