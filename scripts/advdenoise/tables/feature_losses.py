"""Tables of "Feature losses": accuracy of the defences under FGSM and PGD."""

from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import Cell
from scripts.advdenoise.tables._measures import accuracy
from scripts.advdenoise.tables._read import Results

# The paper's PGD starts at the image itself, so that its method may be BIM.
_PRINTED_ATTACKS = {"FGSM": "FGSM", "BIM": "PGD", "PGD": "PGD"}


def defences(predictions: Results) -> list[Cell]:
    """Tables 1 and 2: rows are attack and defence, the one column is accuracy in %.

    The paper trains one autoencoder for each attack, so that its row "OURS" is the denoiser that
    was trained on that very threat; others stand under their purifier's name.
    """

    def label(about: dict) -> tuple[str, str]:
        attack = _printed_attack(predictions, about)
        return f"{attack} / {_printed_defence(predictions, about)}", "accuracy"

    return accuracy(predictions, label)


def _printed_attack(predictions: Results, about: dict) -> str:
    if about["threat"] == "clean":
        return "clean"
    entry = predictions.attack(about["threat"])
    method = _labels.attack(entry, about["attack_point"], _entry_name(about["threat"]))
    known = "+" in about["threat"]
    return _PRINTED_ATTACKS.get(method, method) + ("+" if known else "")


def _printed_defence(predictions: Results, about: dict) -> str:
    purifier = predictions.entry("purifier", about["purifier"])
    if purifier["points"][about["purifier_point"]]["function"] == "basic.none":
        training = predictions.entry("classifier", about["classifier"])["training"]
        return "MADRY (2017)" if training["function"] == "adversarial.pgd" else "UNSECURED"
    denoiser = predictions.entry("denoiser", purifier["denoiser"])
    trained_on = [source.get("threat") for source in denoiser["trained_on"]]
    if trained_on == [about["threat"].partition("+")[0]]:
        return "OURS"
    return _labels.with_point(about["purifier"], about["purifier_point"])


def _entry_name(threat: str) -> str:
    """The name of a threat's attack entry."""
    return threat.partition("@")[0]
