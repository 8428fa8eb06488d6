"""Tables of "APuDAE": accuracy of purification on CIFAR-10."""

from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import Cell
from scripts.advdenoise.tables._measures import accuracy
from scripts.advdenoise.tables._read import Results

# The table's BIM may start at random.
_PRINTED_ATTACKS = {"PGD": "BIM"}
_PRINTED_PURIFIERS = {"basic.none": "No Defense", "basic.direct": "APuDAE (Direct)"}


def purifiers(predictions: Results) -> list[Cell]:
    """Table 3: rows are purifiers, columns attacks; accuracy as a fraction."""

    def label(about: dict) -> tuple[str, str]:
        purifier = predictions.entry("purifier", about["purifier"])
        function = purifier["points"][about["purifier_point"]]["function"]
        name = _labels.with_point(about["purifier"], about["purifier_point"])
        printed = _PRINTED_PURIFIERS.get(function, name)
        training = predictions.entry("classifier", about["classifier"])["training"]
        if training["function"] == "adversarial.pgd" and function == "basic.none":
            printed = "Adversarial Training"
        return printed, _printed_attack(predictions, about)

    return accuracy(predictions, label, unit="fraction")


def _printed_attack(predictions: Results, about: dict) -> str:
    if about["threat"] == "clean":
        return "clean"
    entry = predictions.attack(about["threat"])
    method = _labels.attack(entry, about["attack_point"], about["threat"].partition("@")[0])
    return _PRINTED_ATTACKS.get(method, method) + ("+" if "+" in about["threat"] else "")
