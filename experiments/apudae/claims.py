"""The claims that "APuDAE" makes in words, computed from our results and from its own tables.

Differences of accuracies are paired by image. A published difference is that of two numbers of the
same printed table.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting import labels
from advdenoise.reporting.claims import Claim, Claims, Range, paired_difference
from advdenoise.reporting.measures import correct_shares, with_top_hits
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from . import errors, results
from .printed import PUBLISHED
from .results import LabelAssignment

if TYPE_CHECKING:
    import pandas as pd

FEWEST, MOST = "A, fewest steps", "A, most steps"
_ROBUST = ("FGSM", "R-FGSM", results.BIM, results.FIRST, results.SECOND, results.CW)
_STRONG = (results.BIM, results.FIRST, results.SECOND, results.CW)
_BIMS = (results.BIM, results.SECOND, results.FIRST)
_RIVALS = (results.MAGNET, results.GAN, results.ROBUST)
ADAPTIVE = "an adaptive attack"
# What an adaptive attack may gain where the text says that it gains nothing.
_GAIN = 0.01
# The least loss from one step to several of a network "not robust against iterative attacks".
_LOSS = 0.1

_LESS = "With more iterations clean accuracy gets reduced."
_MORE = "With more iterations adversarial accuracy improves."
_F_BEST = "Adding random noise at each step is the best on CIFAR-10."
_G_WORSE = "A random transformation before leads to slightly worse results on CIFAR-10."
_NOISE = "On ImageNet noise at each update step increases the accuracy of purified adversaries."
_TURN = "On ImageNet a random transformation increases the accuracy of purified adversaries."
_E_CLEAN = "Because of what the modified rule avoids, clean accuracy was lower."
_NOISE_HELPS = "Adding random noise at each step leads to slightly better results on CIFAR-10."
_ITERATIVE = "Adversarial training on FGSM does not make a model robust against iterative attacks."
_PURIFIES = "APuDAE purifies adversaries better than {}, under oblivious attacks."
_ADAPTIVE = "Using the autoencoder adaptively improves accuracy over using it directly."
_DROPS = "Under counter attack A the accuracy of the direct purifier drops drastically."
_RESISTS = "APuDAE gives better robust results against counter attack {} than the direct purifier."
_HIDDEN = "The method is non-differentiable, so that it cannot be attacked directly."
_BETTER = "Under counter attack {} APuDAE performs considerably better than adversarial training."


class Case(NamedTuple):
    """An attack and a defence, by their kinds."""

    attack: str
    defence: str


# Data set, split, and the denoiser of Table 4's variants or nothing.
Where = tuple[str, str, str]
# Of each case the share of correct draws of its images, by seed and id.
Measured = dict[Case, "pd.Series"]
# The printed accuracies.
Printed = dict[Case, float]


def claims(predictions: Results, calibration: list[Path]) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    `calibration` has the mean error of clean images, the threshold of some variants. A claim that
    the results cannot decide says why.
    """
    labeler = LabelAssignment(predictions)
    measured = _measured(predictions, labeler)
    trained = _trained(predictions, labeler)
    simple = {where[0] for where, accuracies in measured.items() if _is_simple(accuracies)}
    claims = Claims()
    for (dataset, split, denoiser), accuracies in measured.items():
        printed = _printed(labels.DATASETS.get(dataset, ""))
        is_other = denoiser and _has_variants(measured.get((dataset, split, ""), {}))
        prefix = f"{dataset}, {split}, {denoiser}: " if is_other else f"{dataset}, {split}: "
        claims.add(prefix, _compared(accuracies, printed))
        claims.add(prefix, _of_training(accuracies, printed, trained.get(dataset, {})))
    claims.add_missing(_without_results())
    claims += errors.claims(predictions, labeler, calibration, simple)
    claims.notes = (
        "Differences of accuracies are fractions and paired image by image; a label among the top "
        "1 % of the classes, at least one, is right.",
        f"{FEWEST} and {MOST}: of the points of variant A, those of its entry's own steps. "
        f"{results.BEST}: the first variant that was attacked so. Counter attack B is that point "
        "of its scan that leaves a defence least.",
        f"A network is taken for not robust against iterative attacks where it loses {_LOSS:g} or "
        "more of its accuracy from FGSM to BIM.",
    )
    return claims


# ---------------------------------------------------------------- measured and printed accuracies


def _measured(predictions: Results, labeler: LabelAssignment) -> dict[Where, Measured]:
    """Of several groups of one case the first counts, of adaptive attacks the worst.

    Purifiers with the denoiser of Table 4's variants are kept apart from those with other denoisers
    on the same images; defences without a denoiser belong to all.
    """
    predictions, _ = with_top_hits(predictions)
    groups = list(correct_shares(predictions))
    apart = {
        (about["dataset"], labeler.denoiser(about))
        for about, _ in groups
        if labeler.defence(about) in (results.NOISY, results.TURNED)
    }
    measured: dict[Where, Measured] = {}
    common: dict[tuple, Measured] = {}
    best: dict[Where, str] = {}
    of_a: dict[Where, dict[int, list]] = {}
    for about, shares in groups:
        images, denoiser = (about["dataset"], about["split"]), labeler.denoiser(about)
        where = (*images, denoiser if (images[0], denoiser) in apart else "")
        attack, defence = labeler.attack(about), labeler.defence(about)
        if denoiser is None:
            common.setdefault(images, {}).setdefault(Case(attack, defence), shares)
            continue
        here = measured.setdefault(where, {})
        if not results.is_oblivious(about):
            if labeler.is_variant(about):
                is_best = best.setdefault(where, defence) == defence
                defence = results.BEST if is_best else labels.purifier(about)
            case = Case(_adaptive_kind(attack, about) or attack, defence)
            if case not in here or shares.mean() < here[case].mean():
                here[case] = shares
            continue
        here.setdefault(Case(attack, defence), shares)
        if defence == results.A:
            steps = labeler.point(about)["settings"]["steps"]
            of_a.setdefault(where, {}).setdefault(steps, []).append((attack, shares))
    for where, here in measured.items():
        _name_extremes(here, of_a.get(where, {}))
        for case, shares in common.get(where[:2], {}).items():
            here.setdefault(case, shares)
        _repeat_bim(here, best.get(where))
    return measured


def _name_extremes(here: Measured, of_a: dict[int, list[tuple[str, "pd.Series"]]]) -> None:
    """Add variant A with the fewest and with the most steps, if it has several numbers of steps."""
    if len(of_a) > 1:
        for name, steps in ((FEWEST, min(of_a)), (MOST, max(of_a))):
            for attack, shares in of_a[steps]:
                here.setdefault(Case(attack, name), shares)


def _adaptive_kind(attack: str, about: dict) -> str | None:
    """The kind of an adaptive attack; None if it is adaptive to another purifier than this one."""
    if attack in (results.COUNTER_A, results.COUNTER_B):
        return attack
    return ADAPTIVE if parse(about["threat"]).purifier == about["purifier"] else None


def _has_variants(measured: Measured) -> bool:
    return any(len(case.defence) == 1 for case in measured)


def _repeat_bim(here: Measured, best: str | None) -> None:
    """Add BIM as the counter attack on the best variant and on adversarial training.

    The paper does so; adversarial training has no purifier to adapt to.
    """
    attack = next((attack for attack in _BIMS if Case(attack, results.NONE) in here), results.BIM)
    copies = [(best, (attack,), results.BEST)]
    copies.append((results.ROBUST, (results.COUNTER_A, results.COUNTER_B), results.ROBUST))
    for defence, attacks, name in copies:
        if (shares := here.get(Case(attack, defence))) is not None:
            for other in attacks:
                here.setdefault(Case(other, name), shares)


def _is_simple(measured: Measured) -> bool:
    """Whether it is the data set of Table 2, on which only variant A is claimed to help."""
    return bool({results.MAGNET, results.GAN} & {case.defence for case in measured})


def _printed(dataset: str) -> Printed:
    """The tables' accuracies on a data set, by our kinds of attacks and defences."""
    accuracies: Printed = {}
    for table in ("table2", "table3", "table4", "table5"):
        for line in PUBLISHED.lines(table):
            if line["dataset"] != dataset:
                continue
            attack, defence = line["column"], line["row"]
            if table == "table2":
                attack, defence = defence, attack
            elif table == "table5":
                attack, defence = f"counter attack {defence[-1]}", attack
            attack = {"Clean": CLEAN, "PGD": results.BIM}.get(attack, attack)
            for name in _KINDS.get(defence, (_kind(defence),)):
                accuracies[Case(attack, name)] = float(line["value"])
    return accuracies


# Printed defences by our kinds.
_KINDS = {
    "No defense": (results.NONE,),
    "Adv. Training": (results.ROBUST,),
    "APuDAE": (results.A,),
    "APuDAE (A, n=12)": (results.A, FEWEST),
    "APuDAE (A, n=18)": (MOST,),
    "APuDAE (A, n1)": (results.A, FEWEST),
    "APuDAE (A, n3)": (MOST,),
    "APuDAE (B)": (results.NOISY,),
    "APuDAE (C)": (results.TURNED,),
}


def _kind(printed: str) -> str:
    """The letter of a variant as Table 3 prints it; other labels are their own kind."""
    return printed[7] if len(printed) == 9 and printed.startswith("APuDAE(") else printed


# ---------------------------------------------------------------- accuracies compared


def _compared(measured: Measured, printed: Printed) -> Iterator[Claim]:
    is_simple = _is_simple(measured)
    comparisons = [] if is_simple else [*_COMPARISONS]
    others = [case for case in measured if len(case.defence) == 1 and case.defence != "F"]
    for attack in () if is_simple else ("FGSM", *_STRONG):
        if rivals := [case for case in others if case.attack == attack]:
            rival = max(rivals, key=lambda case: measured[case].mean()).defence
            comparisons.append((_F_BEST, (attack,), "F", rival, Range(0)))
    variants = (results.A,) if is_simple else ("F", results.TURNED)
    for name in variants:
        comparisons.append((_ADAPTIVE, (*_ROBUST, CLEAN), name, results.DIRECT, Range(0)))
    for name in variants:
        for rival in _RIVALS if is_simple else (results.ROBUST,):
            comparisons.append((_PURIFIES.format(rival), _ROBUST, name, rival, Range(0)))
    for sentence, attacks, first, second, claimed in comparisons:
        for attack in attacks:
            yield from _pair(sentence, claimed, measured, printed, attack, first, second)
    yield from _of_counter_attacks(measured, printed)


def _pair(
    sentence: str,
    claimed: Range,
    measured: Measured,
    printed: Printed,
    attack: str,
    first: str,
    second: str,
) -> Iterator[Claim]:
    """The claim about two defences under one attack, if there are results of both."""
    cases = Case(attack, first), Case(attack, second)
    if measured.keys() >= {*cases}:
        yield _difference(sentence, claimed, measured, printed, *cases)


def _of_counter_attacks(measured: Measured, printed: Printed) -> Iterator[Claim]:
    """How much counter attacks lower a defence's accuracy, and defences compared under them."""
    for sentence, claimed, attack, defence in (
        (_DROPS, Range(most=0), results.COUNTER_A, results.DIRECT),
        (_HIDDEN, Range(-_GAIN), ADAPTIVE, results.BEST),
    ):
        before = next((a for a in _BIMS if Case(a, defence) in measured), None)
        if Case(attack, defence) in measured and before:
            cases = Case(attack, defence), Case(before, defence)
            claim = _difference(sentence, claimed, measured, printed, *cases)
            yield replace(claim, quantity=f"accuracy of {defence}, {attack} - {before}")
    for attack in (results.COUNTER_A, results.COUNTER_B):
        for sentence, other in ((_RESISTS, results.DIRECT), (_BETTER, results.ROBUST)):
            of_attack = sentence.format(attack[-1])
            yield from _pair(of_attack, Range(0), measured, printed, attack, results.BEST, other)


def _of_training(measured: Measured, printed: Printed, robust: dict[str, bool]) -> Iterator[Claim]:
    """Networks trained on one FGSM step under BIM: beside themselves under FGSM, beside others."""
    attack = next((a for a in _BIMS for name in robust if Case(a, name) in measured), results.BIM)
    for name in (name for name, is_fgsm in robust.items() if is_fgsm):
        cases = Case(attack, name), Case("FGSM", name)
        if measured.keys() >= {*cases}:
            claim = _difference(_ITERATIVE, _CLAIMED[_ITERATIVE], measured, printed, *cases)
            yield replace(claim, quantity=f"accuracy of {name}, {attack} - FGSM")
        for other in (other for other, is_fgsm in robust.items() if not is_fgsm):
            yield from _pair(_ITERATIVE, Range(most=0), measured, printed, attack, name, other)


def _trained(predictions: Results, labeler: LabelAssignment) -> dict[str, dict[str, bool]]:
    """The robust networks by data set and name, and whether they were trained on FGSM."""
    trained: dict[str, dict[str, bool]] = {}
    for about in predictions.distinct(["dataset", "classifier", "purifier", "purifier_point"]):
        defence = labeler.defence(about)
        if labeler.denoiser(about) is None and defence.startswith(results.ROBUST):
            training = predictions.entry("classifier", about["classifier"])["training"]
            settings = training.get("settings", {})
            is_fgsm = settings.get("steps") == 1 and not settings.get("random_start", True)
            trained.setdefault(about["dataset"], {})[defence] = is_fgsm
    return trained


# Sentence, attacks, two defences, and the range claimed for the difference of their accuracies.
_COMPARISONS = (
    (_LESS, (CLEAN,), MOST, FEWEST, Range(most=0)),
    (_MORE, _ROBUST, MOST, FEWEST, Range(0)),
    (_G_WORSE, (CLEAN, "FGSM", *_STRONG), "G", "F", Range(most=0)),
    (_NOISE, _BIMS, results.NOISY, results.A, Range(0)),
    (_TURN, _BIMS, results.TURNED, results.A, Range(0)),
    (_E_CLEAN, (CLEAN,), "E", "D", Range(0)),
    (_NOISE_HELPS, ("FGSM", "R-FGSM", *_STRONG), "F", "E", Range(0)),
)


def _without_results() -> Iterator[Claim]:
    """Every sentence about accuracies once, for those without results on any data set."""
    for sentence, attacks, first, second, claimed in _COMPARISONS:
        quantity = f"accuracy of {first} - {second}, {_under(attacks[0])}"
        yield Claim(sentence, quantity, claimed, reason=f"{first} and {second} were not compared")
    others = [(_F_BEST, "F", "the best of A to G"), (_ADAPTIVE, "a variant", results.DIRECT)]
    others += [(_PURIFIES.format(rival), "a variant", rival) for rival in _RIVALS]
    others.append((_ITERATIVE, "a network trained on FGSM under BIM", "under FGSM"))
    others.append((_DROPS, f"{results.DIRECT} under {results.COUNTER_A}", f"under {results.BIM}"))
    others.append((_HIDDEN, f"{results.BEST} under {ADAPTIVE}", f"under {results.BIM}"))
    for letter, attack in (("A", results.COUNTER_A), ("B", results.COUNTER_B)):
        for sentence, other in ((_RESISTS, results.DIRECT), (_BETTER, results.ROBUST)):
            others.append((sentence.format(letter), results.BEST, f"{other}, {attack}"))
    for sentence, first, second in others:
        reason = f"{first} and {second} were not compared"
        claimed = _CLAIMED.get(sentence, Range(0))
        yield Claim(sentence, f"accuracy of {first} - {second}", claimed, reason=reason)


_CLAIMED = {_DROPS: Range(most=0), _HIDDEN: Range(-_GAIN), _ITERATIVE: Range(most=-_LOSS)}


def _under(attack: str) -> str:
    return "clean images" if attack == CLEAN else attack


def _difference(
    sentence: str, claimed: Range, measured: Measured, printed: Printed, first: Case, second: Case
) -> Claim:
    """Accuracy in the first case less that in the second, over the images that both have."""
    quantity = f"accuracy of {first.defence} - {second.defence}, {_under(first.attack)}"
    pair = [printed.get(case) for case in (first, second)]
    published = "" if None in pair else f"{pair[0] - pair[1]:.3f}"
    claim = Claim(sentence, quantity, claimed, published=published)
    difference = paired_difference(measured[first], measured[second])
    if isinstance(difference, Estimate):
        # Means over draws are rounded, so that floating point decides no comparison with a bound.
        bounds = (round(bound, 12) + 0.0 for bound in difference[:3])
        difference = Estimate(*bounds, difference.n)
    return claim.measured(difference)
