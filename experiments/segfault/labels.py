"""Printed names of "Segmentation Fault"."""

from advdenoise.reporting.labels import ATTACKS, Labels, superpixel_settings, with_point

LABELS = Labels(paper="Segmentation Fault")
CW, FGSM = ATTACKS["minimal.carlini_wagner"], ATTACKS["gradient.fgsm"]
DETECTORS = {"trees.random_forest": "Random Forest", "svm.svc": "SVC", "trees.xgboost": "XGB"}
# Which the paper does not print.
_DETECTORS_HERE = {"svm.svc_grid_search": "SVC, C and gamma searched"}
PIXELS = "pixel (ML-LOO)"
REPRESENTATIONS = {"predicted": "1-D", "probabilities": "10-D", "hidden": "4K-D"}
ONE, TEN, HIDDEN = REPRESENTATIONS.values()
# As many values as these names stand for.
LENGTHS = {"predicted": 1, "probabilities": 10, "hidden": 3810}


def detector_name(entry: dict, point: str) -> str:
    """The printed name of a detector; the entry's own where the paper has none.

    Of several points of one method, which differ in settings, the first has its name alone, the
    others stand beside it with their own.
    """
    function = entry["points"][point]["function"]
    first = next(name for name, p in entry["points"].items() if p["function"] == function)
    own = with_point(entry["name"], point)
    printed = DETECTORS.get(function) or _DETECTORS_HERE.get(function)
    return f"{printed} ({own})" if printed and point != first else printed or own


def superpixel_name(point: dict) -> str:
    """The printed name of a superpixel setting, such as `slic n_segments=64`."""
    method = point["function"].partition(".")[2]
    if method == "pixels":
        return PIXELS
    return " ".join([method, *superpixel_settings(point)])
