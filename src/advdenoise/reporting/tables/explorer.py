"""The explorer: distances, predictions and detectors' scores of the same images."""

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

    A row for each image, threat, purifier and layer. `protocol` and `representation` select the
    scores; values that were not computed are null, and without `detection` there are no scores.
    """
    return Rows(explorer.join_results(distances, predictions, detection, protocol, representation))
