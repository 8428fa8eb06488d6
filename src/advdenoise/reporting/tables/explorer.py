"""The propagation explorer: how far noise travels, and what classifier and detector make of it."""

from typing import Literal

from advdenoise.reporting import explorer
from advdenoise.reporting.cells import Rows
from advdenoise.reporting.read import Results


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
    return Rows(explorer.joined(distances, predictions, detection, protocol, representation))
