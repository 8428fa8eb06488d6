"""Detection tables that belong to no paper."""

from advdenoise.errors import BadInput
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.measures import auc, auc_difference, transfer_auc, true_positive_rates
from advdenoise.reporting.read import Results


def by_detector(detection: Results) -> list[Cell]:
    """AUC, and TPR at 1, 5 and 10 % FPR, of every detector on every attack and representation."""
    return auc(detection, _by_attack) + true_positive_rates(detection, _by_attack)


def protocols(detection: Results) -> list[Cell]:
    """AUC of every detector under each protocol, and `paper` less `grouped`.

    The difference is what a random split of rows adds, by an image's twin on the other side and by
    attacks that failed, to a split by image; its interval is paired over images.
    """
    return auc(detection, _by_attack) + auc_difference(detection, _by_attack)


def transfer(detection: Results) -> list[Cell]:
    """AUC of detectors fitted on one attack (rows) against every attack of the suite (columns).

    Raises BadInput where no detector has scored another attack's rows.
    """

    def label(about: dict) -> tuple[str, str]:
        fitted = labels.threat(about["fitted_threat"], about["fitted_point"], about["classifier"])
        parts = [_attribution(about), _scores(about), f"fitted on {fitted}"]
        return f"{about['dataset']}, {about['classifier']}: {', '.join(parts)}", _attack(about)

    cells = transfer_auc(detection, label)
    if all(_is_own(cell.about) for cell in cells):
        raise BadInput(
            "detection.transfer: no detector has scored the images of an attack that it was not "
            "fitted on; set `detection: {transfer: true}`, for a suite of several attacks"
        )
    return cells


def _by_attack(about: dict) -> tuple[str, str]:
    row = f"{about['dataset']}, {about['classifier']}: {_attack(about)}, {_attribution(about)}"
    return row, _scores(about)


def _is_own(about: dict) -> bool:
    fitted = about["fitted_threat"], about["fitted_point"]
    return fitted == (about["threat"], about["attack_point"])


def _attack(about: dict) -> str:
    return labels.threat(about["threat"], about["attack_point"], about["classifier"])


def _attribution(about: dict) -> str:
    return labels.with_point(about["attribution"], about["attribution_point"])


def _scores(about: dict) -> str:
    detector = labels.with_point(about["detector"], about["detector_point"])
    return f"{detector} {about['representation']} ({about['protocol']})"
