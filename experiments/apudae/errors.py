"""The claims of "APuDAE" about reconstruction errors, computed from our results.

All quantities are differences of errors, image by image, in % of mu, the mean error of held-out
clean images (from the calibration).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN
from advdenoise.reporting.claims import Claim, Range
from advdenoise.reporting.read import Results, iter_groups, read_values

from . import results
from .results import LabelAssignment

if TYPE_CHECKING:
    import pandas as pd

# The largest change, in % of the mean error, that counts as "no change".
_PERCENT = 1.0
_ATTACKS = ("FGSM", "R-FGSM", results.BIM, results.FIRST, results.SECOND, results.CW)
_PREMISE = "The reconstruction error of clean images is below that of adversarial ones."
_BOTH = "With a fixed number of iterations the errors of clean and adversarial images are reduced."
_D_RAISES = "A target distribution increases the reconstruction error of clean images below mean."
_E_NOT = "The modified rule leads to no change of clean images with an error below the mean."
_NAMES = ["dataset", "split", "classifier", "purifier", "purifier_point", "threat", "attack_point"]

# By replicate, data set and denoiser.
Means = dict[tuple[int, str, str], float]


def claims(
    predictions: Results, labeler: LabelAssignment, calibration: list[Path], simple: set[str]
) -> Iterator[Claim]:
    """The premise, the effect of A on all images, and that of D and E on clean ones below the mean.

    Nothing is claimed of D and E on the `simple` data sets.
    """
    means = {
        (settings["seed"], settings["dataset"], settings["denoiser"]["name"]): value["mean"]
        for value, settings in read_values(calibration)
    }
    groups = [
        (about, rows)
        for about, rows in iter_groups(predictions.frame, _NAMES)
        if results.is_oblivious(about)
        and labeler.denoiser(about) is not None
        # A generator has no error, and there is no claim about MagNet's.
        and labeler.defence(about) not in (results.MAGNET, results.GAN)
    ]
    yield from _of_premise(groups, labeler, means)
    yield from _of_a(groups, labeler, means)
    yield from _of_d_and_e(groups, labeler, means, simple)


def _of_premise(groups: list, labeler: LabelAssignment, means: Means) -> Iterator[Claim]:
    words = "error of adversarial less that of clean images in % of the mean"
    errors: dict[tuple, dict[str, pd.DataFrame]] = {}
    for about, rows in groups:
        where = about["dataset"], about["split"], labeler.denoiser(about)
        errors.setdefault(where, {}).setdefault(labeler.attack(about), rows)
    compared = False
    for where, here in errors.items():
        for attack in _ATTACKS:
            if {CLEAN, attack} <= here.keys():
                compared = True
                claim = Claim(_PREMISE, f"{', '.join(where)}: {words}, {attack}", Range(0))
                pairs = _paired(here[attack], here[CLEAN])
                yield _measured(claim, pairs["difference"], pairs, where[2], means)
    if not compared:
        reason = "no denoiser was shown clean and adversarial images"
        yield Claim(_PREMISE, words, Range(0), reason=reason)


def _paired(attacked: "pd.DataFrame", clean: "pd.DataFrame") -> "pd.DataFrame":
    """Each image once: its error before a purifier under attack less that when clean."""
    keys = ["seed", "dataset", "id"]
    one, other = (
        rows.drop_duplicates(keys).set_index(keys)["error_before"] for rows in (attacked, clean)
    )
    one, other = one.align(other, join="inner")
    return (one - other).rename("difference").reset_index()


def _of_a(groups: list, labeler: LabelAssignment, means: Means) -> Iterator[Claim]:
    claims: dict[tuple, Claim] = {}
    for about, rows in groups:
        attack = labeler.attack(about)
        if labeler.defence(about) != results.A or attack not in (CLEAN, *_ATTACKS):
            continue
        where = about["dataset"], about["split"], labeler.denoiser(about), attack
        if where not in claims:
            quantity = f"{', '.join(where[:3])}: change of the error in % of the mean, A, {attack}"
            claim = Claim(_BOTH, quantity, Range(most=0))
            claims[where] = _change(claim, rows, where[2], means)
    if not claims:
        quantity = "change of the error in % of the mean, A"
        yield Claim(_BOTH, quantity, Range(most=0), reason="A was not judged")
    yield from claims.values()


def _of_d_and_e(
    groups: list, labeler: LabelAssignment, means: Means, simple: set[str]
) -> Iterator[Claim]:
    claimed = {"D": (_D_RAISES, Range(0)), "E": (_E_NOT, Range(-_PERCENT, _PERCENT))}
    words = "change of the error of clean images below the mean in % of it, {}"
    claims: dict[tuple, Claim] = {}
    for about, rows in groups:
        variant = labeler.defence(about)
        where = (about["dataset"], about["split"], variant)
        if about["threat"] != CLEAN or variant not in claimed or about["dataset"] in simple:
            continue
        if where not in claims:
            sentence, wanted = claimed[variant]
            claim = Claim(sentence, f"{', '.join(where[:2])}: {words.format(variant)}", wanted)
            claims[where] = _change(claim, rows, labeler.denoiser(about), means, below=True)
    for variant, (sentence, wanted) in claimed.items():
        if not any(where[2] == variant for where in claims):
            reason = f"{variant} was not judged on clean images"
            yield Claim(sentence, words.format(variant), wanted, reason=reason)
    yield from claims.values()


def _change(
    claim: Claim, rows: "pd.DataFrame", denoiser: str, means: Means, below: bool = False
) -> Claim:
    """The change from before to after a purifier, of images `below` the mean or of all."""
    if below:
        mean = _mean(rows, denoiser, means)
        # Without a mean all stay, and `_measured` says why nothing is results.
        rows = rows[(rows["error_before"] < mean) | mean.isna()]
        if not len(rows):
            return replace(claim, reason="no image has an error below the mean")
    return _measured(claim, rows["error_after"] - rows["error_before"], rows, denoiser, means)


def _measured(
    claim: Claim, difference: "pd.Series", rows: "pd.DataFrame", denoiser: str, means: Means
) -> Claim:
    mean = _mean(rows, denoiser, means)
    if not len(rows) or mean.isna().any():
        return replace(claim, reason=f"the calibration of {denoiser} is not among the files")
    share = (100 * difference / mean).to_numpy()
    return replace(claim, estimate=statistics.bootstrap_mean(share, rows["id"].to_numpy()))


def _mean(rows: "pd.DataFrame", denoiser: str, means: Means) -> "pd.Series":
    """The mean error of each row's calibration, NaN where that is not among the files."""
    keys = zip(rows["seed"], rows["dataset"], strict=True)
    return rows["id"] * 0.0 + [means.get((*key, denoiser), float("nan")) for key in keys]
