"""Layer-wise distances as tables."""

from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.measures import distance
from advdenoise.reporting.read import Results

MEASURES = {
    "ne_d": "NE-D",
    "ne_d_sqrt": "NE-D/sqrt(n)",
    "cos_d": "COS-D",
    "ne_d_raw": "NE-D before ReLU",
    "cos_d_raw": "COS-D before ReLU",
}


def by_layer(distances: Results) -> list[Cell]:
    """NE-D by n and by the root of n, and COS-D: rows are threats, purifiers and layers.

    Maps are those after ReLU, which all but the last layer's are compared after, and second, as
    `before ReLU`, those that the modules give.
    """

    def label(about: dict) -> tuple[str, str]:
        threat = labels.threat(about["threat"], about["attack_point"], about["classifier"])
        layer = f"{about['layer_index'] + 1} {about['layer']}"
        row = f"{about['dataset']}, {about['classifier']}: {threat}"
        return f"{row}, {labels.purifier(about)}", layer

    cells = []
    for measure, printed in MEASURES.items():

        def of_measure(about: dict, printed: str = printed) -> tuple[str, str]:
            row, column = label(about)
            return f"{row}, {printed}", column

        cells += distance(distances, measure, of_measure)
    return cells
