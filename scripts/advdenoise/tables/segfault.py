"""Tables of "Segmentation Fault": accuracy under attack, and AUC of the detectors."""

from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import Cell
from scripts.advdenoise.tables._measures import accuracy, auc
from scripts.advdenoise.tables._read import Results


def attacks(predictions: Results) -> list[Cell]:
    """Table 1: accuracy in % for each attack (rows) and epsilon in its own unit (columns)."""

    def label(about: dict) -> tuple[str, str]:
        if about["threat"] == "clean":
            return "No attack", "-"
        entry = predictions.attack(about["threat"])
        name = about["threat"].partition("@")[0]
        pixels = entry.get("epsilon_unit", {}).get("pixels", 1.0)
        epsilon = about["epsilon"]
        # NaN, which differs from itself, is an attack without a budget.
        printed = f"{epsilon / pixels:.3g}" if epsilon == epsilon else "None"
        return _labels.attack(entry, about["attack_point"], name), f"eps={printed}"

    return accuracy(predictions, label, by=("epsilon",))


def detectors(detection: Results) -> list[Cell]:
    """Table 2: AUC of each detector (rows) for each attack and representation (columns)."""

    def label(about: dict) -> tuple[str, str]:
        return _row(_detector(detection, about), about), _column(detection, about)

    return auc(detection, label)


def superpixels(detection: Results) -> list[Cell]:
    """Table 6: AUC for each superpixel setting (rows), attack and representation (columns).

    The paper's detector is XGBoost; others are rows of their own.
    """

    def label(about: dict) -> tuple[str, str]:
        attribution = detection.entry("attribution", about["attribution"])
        printed = _labels.superpixels(attribution["points"][about["attribution_point"]])
        detector = _detector(detection, about)
        named = printed if detector == "XGB" else f"{printed}, {detector}"
        return _row(named, about), _column(detection, about)

    return auc(detection, label)


def _detector(detection: Results, about: dict) -> str:
    point = detection.entry("detector", about["detector"])["points"][about["detector_point"]]
    name = _labels.with_point(about["detector"], about["detector_point"])
    return _labels.DETECTORS.get(point["function"], name)


def _row(printed: str, about: dict) -> str:
    """The paper splits rows at random; another protocol is a row of its own."""
    return printed if about["protocol"] == "paper" else f"{printed} ({about['protocol']})"


def _column(detection: Results, about: dict) -> str:
    entry = detection.attack(about["threat"])
    attack = _labels.attack(entry, about["attack_point"], about["threat"].partition("@")[0])
    return f"{attack} {_labels.REPRESENTATIONS[about['representation']]}"
