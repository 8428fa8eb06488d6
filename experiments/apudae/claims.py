"""What "APuDAE" says in words, computed from our results and from its own tables.

Where two accuracies are compared, they are so image by image: the difference is paired. A published
difference is that of two numbers of the same printed table.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.claims import Claim, Claims, Range
from advdenoise.reporting.measures import correct, top
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from . import errors
from . import results as known
from .results import PUBLISHED, Places

if TYPE_CHECKING:
    import pandas as pd

FEWEST, MOST = "A, fewest steps", "A, most steps"
_ROBUST = ("FGSM", "R-FGSM", known.BIM, known.FIRST, known.SECOND, known.CW)
_STRONG = (known.BIM, known.FIRST, known.SECOND, known.CW)
_BIMS = (known.BIM, known.SECOND, known.FIRST)
KNOWING = "an attack that knows it"
# What an attacker who knows the purifier may gain, where the text has none gain anything.
_GAIN = 0.01
# What a network must lose from one step to several to "not be robust against iterative attacks".
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
_RIVALS = "APuDAE purifies adversaries better than {}, under attacks that do not know it."
_ADAPTIVE = "Using the autoencoder adaptively improves accuracy over using it directly."
_DROPS = "Under counter attack A the accuracy of the direct purifier drops drastically."
_RESISTS = "APuDAE gives better robust results against counter attack {} than the direct purifier."
_HIDDEN = "The method is non-differentiable, so that it cannot be attacked directly."
_BETTER = "Under counter attack {} APuDAE performs considerably better than adversarial training."


class Place(NamedTuple):
    """Attack and defence by their kinds."""

    attack: str
    defence: str


# Data set, split, and the denoiser of Table 4's variants or nothing.
Where = tuple[str, str, str]
# For each place its images' shares of right draws by seed and id.
Measured = dict[Place, "pd.Series"]
# From a place to the accuracy that the paper prints for it.
Printed = dict[Place, float]


def claims(predictions: Results, calibration: list[Path]) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    `calibration` gives the mean error of clean images, by which a variant decides. A claim that the
    results cannot decide says why.
    """
    places = Places(predictions)
    measured = _measured(predictions, places)
    trained = _trained(predictions, places)
    simple = {where[0] for where, accuracies in measured.items() if _is_simple(accuracies)}
    found = Claims()
    for (dataset, split, denoiser), accuracies in measured.items():
        printed = _printed(labels.DATASETS.get(dataset, ""))
        is_other = denoiser and _has_variants(measured.get((dataset, split, ""), {}))
        told = f"{dataset}, {split}, {denoiser}: " if is_other else f"{dataset}, {split}: "
        robust = trained.get(dataset, {})
        compared = _compared(accuracies, printed), _of_training(accuracies, printed, robust)
        for claim in itertools.chain(*compared):
            found.append(replace(claim, quantity=told + claim.quantity))
    met = {claim.sentence for claim in found}
    found += [claim for claim in _absent() if claim.sentence not in met]
    found += errors.claims(predictions, places, calibration, simple)
    found.notes = (
        "Differences of accuracies are fractions and paired image by image; a label among the top "
        "1 % of the classes, at least one, is right.",
        f"{FEWEST} and {MOST}: of the points of variant A, those of its entry's own steps. "
        f"{known.BEST}: the first variant that was attacked so. Counter attack B is that point of "
        "its scan that leaves a defence least.",
        f"A network is taken for not robust against iterative attacks where it loses {_LOSS:g} or "
        "more of its accuracy from FGSM to BIM.",
    )
    return found


# ---------------------------------------------------------------- what was measured and printed


def _measured(predictions: Results, places: Places) -> dict[Where, Measured]:
    """Of several groups of one place the first counts, of attacks that know it the worst.

    What has the denoiser of Table 4's variants is apart from what has others on the same images;
    what has none belongs to all.
    """
    judged, _ = top(predictions)
    groups = list(correct(judged))
    apart = {
        (about["dataset"], places.denoiser(about))
        for about, _ in groups
        if places.defence(about) in (known.NOISY, known.TURNED)
    }
    found: dict[Where, Measured] = {}
    common: dict[tuple, Measured] = {}
    best: dict[Where, str] = {}
    of_a: dict[Where, dict[int, list]] = {}
    for about, right in groups:
        images, denoiser = (about["dataset"], about["split"]), places.denoiser(about)
        where = (*images, denoiser if (images[0], denoiser) in apart else "")
        attack, defence = places.attack(about), places.defence(about)
        if denoiser is None:
            common.setdefault(images, {}).setdefault(Place(attack, defence), right)
            continue
        here = found.setdefault(where, {})
        if not places.is_plain(about):
            if places.is_variant(about):
                is_best = best.setdefault(where, defence) == defence
                defence = known.BEST if is_best else places.own(about)
            place = Place(_informed(attack, about, places) or attack, defence)
            if place not in here or right.mean() < here[place].mean():
                here[place] = right
            continue
        here.setdefault(Place(attack, defence), right)
        if defence == known.A:
            steps = places.point(about)["settings"]["steps"]
            of_a.setdefault(where, {}).setdefault(steps, []).append((attack, right))
    for where, here in found.items():
        _name_extremes(here, of_a.get(where, {}))
        for place, right in common.get(where[:2], {}).items():
            here.setdefault(place, right)
        _repeat_bim(here, best.get(where))
    return found


def _name_extremes(here: Measured, of_a: dict[int, list[tuple[str, "pd.Series"]]]) -> None:
    """Variant A with the fewest and with the most steps, where it has several numbers of them."""
    if len(of_a) > 1:
        for name, steps in ((FEWEST, min(of_a)), (MOST, max(of_a))):
            for attack, right in of_a[steps]:
                here.setdefault(Place(attack, name), right)


def _informed(attack: str, about: dict, places: Places) -> str | None:
    """The kind of an attack that knows a purifier; None where it knows another than this one."""
    if attack in (known.COUNTER_A, known.COUNTER_B):
        return attack
    return KNOWING if places.knows(about) else None


def _has_variants(found: Measured) -> bool:
    return any(len(place.defence) == 1 for place in found)


def _repeat_bim(here: Measured, best: str | None) -> None:
    """BIM of the best variant, and of adversarial training, which knows no purifier, as counter
    attacks: so does the paper."""
    attack = next((attack for attack in _BIMS if Place(attack, known.NONE) in here), known.BIM)
    copies = [(best, (attack,), known.BEST)]
    copies.append((known.ROBUST, (known.COUNTER_A, known.COUNTER_B), known.ROBUST))
    for defence, attacks, name in copies:
        if (right := here.get(Place(attack, defence))) is not None:
            for other in attacks:
                here.setdefault(Place(other, name), right)


def _is_simple(found: Measured) -> bool:
    """Whether it is the data set of Table 2: there variant A alone is claimed to do something."""
    return bool({known.MAGNET, known.GAN} & {place.defence for place in found})


def _printed(dataset: str) -> Printed:
    """The tables' accuracies on a data set, by our kinds of attacks and defences."""
    found: Printed = {}
    for table in ("table2", "table3", "table4", "table5"):
        for line in PUBLISHED.lines(table):
            if line["dataset"] != dataset:
                continue
            attack, defence = line["column"], line["row"]
            if table == "table2":
                attack, defence = defence, attack
            elif table == "table5":
                attack, defence = f"counter attack {defence[-1]}", attack
            attack = {"Clean": CLEAN, "PGD": known.BIM}.get(attack, attack)
            for name in _KINDS.get(defence, (_kind(defence),)):
                found[Place(attack, name)] = float(line["value"])
    return found


# Printed defences by our kinds.
_KINDS = {
    "No defense": (known.NONE,),
    "Adv. Training": (known.ROBUST,),
    "APuDAE": (known.A,),
    "APuDAE (A, n=12)": (known.A, FEWEST),
    "APuDAE (A, n=18)": (MOST,),
    "APuDAE (A, n1)": (known.A, FEWEST),
    "APuDAE (A, n3)": (MOST,),
    "APuDAE (B)": (known.NOISY,),
    "APuDAE (C)": (known.TURNED,),
}


def _kind(printed: str) -> str:
    """The letter of a variant as Table 3 prints it; other labels are their own kind."""
    return printed[7] if len(printed) == 9 and printed.startswith("APuDAE(") else printed


# ---------------------------------------------------------------- accuracies compared


def _compared(found: Measured, printed: Printed) -> Iterator[Claim]:
    comparisons = [] if _is_simple(found) else _COMPARISONS
    for sentence, attacks, first, second, claimed in comparisons:
        for attack in attacks:
            yield from _pair(sentence, claimed, found, printed, attack, first, second)
    others = [place for place in found if len(place.defence) == 1 and place.defence != "F"]
    for attack in () if _is_simple(found) else ("FGSM", *_STRONG):
        if rivals := [place for place in others if place.attack == attack]:
            rival = max(rivals, key=lambda place: found[place].mean()).defence
            yield from _pair(_F_BEST, Range(0), found, printed, attack, "F", rival)
    for name in (known.A,) if _is_simple(found) else ("F", known.TURNED):
        for attack in (*_ROBUST, CLEAN):
            yield from _pair(_ADAPTIVE, Range(0), found, printed, attack, name, known.DIRECT)
    rivals = (known.MAGNET, known.GAN, known.ROBUST) if _is_simple(found) else (known.ROBUST,)
    for name in (known.A,) if _is_simple(found) else ("F", known.TURNED):
        for rival in rivals:
            for attack in _ROBUST:
                told = _RIVALS.format(rival)
                yield from _pair(told, Range(0), found, printed, attack, name, rival)
    yield from _of_counter_attacks(found, printed)


def _pair(
    sentence: str,
    claimed: Range,
    found: Measured,
    printed: Printed,
    attack: str,
    first: str,
    second: str,
) -> Iterator[Claim]:
    """The claim about two defences under one attack, if both were met with it."""
    places = Place(attack, first), Place(attack, second)
    if all(place in found for place in places):
        yield _difference(sentence, claimed, found, printed, *places)


def _of_counter_attacks(found: Measured, printed: Printed) -> Iterator[Claim]:
    """What a known denoiser or purifier costs a defence, and what is left of it."""
    for sentence, claimed, attack, defence in (
        (_DROPS, Range(most=0), known.COUNTER_A, known.DIRECT),
        (_HIDDEN, Range(-_GAIN), KNOWING, known.BEST),
    ):
        before = next((a for a in _BIMS if Place(a, defence) in found), None)
        if Place(attack, defence) in found and before:
            pair = Place(attack, defence), Place(before, defence)
            claim = _difference(sentence, claimed, found, printed, *pair)
            quantity = f"accuracy of {defence}, {attack} - {before}"
            yield replace(claim, quantity=quantity)
    for attack in (known.COUNTER_A, known.COUNTER_B):
        for sentence, other in ((_RESISTS, known.DIRECT), (_BETTER, known.ROBUST)):
            told = sentence.format(attack[-1])
            yield from _pair(told, Range(0), found, printed, attack, known.BEST, other)


def _of_training(measured: Measured, printed: Printed, robust: dict[str, bool]) -> Iterator[Claim]:
    """What is left of networks trained on one FGSM step under BIM: of themselves, beside others."""
    attack = next((a for a in _BIMS for name in robust if Place(a, name) in measured), known.BIM)
    for name in (name for name, is_fgsm in robust.items() if is_fgsm):
        places = Place(attack, name), Place("FGSM", name)
        if all(place in measured for place in places):
            claim = _difference(_ITERATIVE, _CLAIMED[_ITERATIVE], measured, printed, *places)
            yield replace(claim, quantity=f"accuracy of {name}, {attack} - FGSM")
        for other in (other for other, is_fgsm in robust.items() if not is_fgsm):
            yield from _pair(_ITERATIVE, Range(most=0), measured, printed, attack, name, other)


def _trained(predictions: Results, places: Places) -> dict[str, dict[str, bool]]:
    """By data set and name the robust networks, and whether FGSM is what they were trained on."""
    names = ["dataset", "classifier", "purifier", "purifier_point"]
    found: dict[str, dict[str, bool]] = {}
    for values in predictions.frame[names].drop_duplicates().itertuples(index=False, name=None):
        about = dict(zip(names, values, strict=True))
        defence = places.defence(about)
        if places.denoiser(about) is None and defence.startswith(known.ROBUST):
            training = predictions.entry("classifier", about["classifier"])["training"]
            settings = training.get("settings", {})
            is_fgsm = settings.get("steps") == 1 and not settings.get("random_start", True)
            found.setdefault(about["dataset"], {})[defence] = is_fgsm
    return found


# Sentence, attacks, two defences, and what is claimed of the first's accuracy less the second's.
_COMPARISONS = (
    (_LESS, (CLEAN,), MOST, FEWEST, Range(most=0)),
    (_MORE, _ROBUST, MOST, FEWEST, Range(0)),
    (_G_WORSE, (CLEAN, "FGSM", *_STRONG), "G", "F", Range(most=0)),
    (_NOISE, _BIMS, known.NOISY, known.A, Range(0)),
    (_TURN, _BIMS, known.TURNED, known.A, Range(0)),
    (_E_CLEAN, (CLEAN,), "E", "D", Range(0)),
    (_NOISE_HELPS, ("FGSM", "R-FGSM", *_STRONG), "F", "E", Range(0)),
)


def _absent() -> Iterator[Claim]:
    """Every sentence about accuracies once, for those that no data set has the results of."""
    for sentence, attacks, first, second, claimed in _COMPARISONS:
        quantity = f"accuracy of {first} - {second}, {_under(attacks[0])}"
        yield Claim(sentence, quantity, claimed, lacking=f"{first} and {second} were not compared")
    others = [(_F_BEST, "F", "the best of A to G"), (_ADAPTIVE, "a variant", known.DIRECT)]
    others += [
        (_RIVALS.format(rival), "a variant", rival)
        for rival in (known.MAGNET, known.GAN, known.ROBUST)
    ]
    others.append((_ITERATIVE, "a network trained on FGSM under BIM", "under FGSM"))
    others.append((_DROPS, f"{known.DIRECT} under {known.COUNTER_A}", f"under {known.BIM}"))
    others.append((_HIDDEN, f"{known.BEST} under {KNOWING}", f"under {known.BIM}"))
    for letter, attack in (("A", known.COUNTER_A), ("B", known.COUNTER_B)):
        for sentence, other in ((_RESISTS, known.DIRECT), (_BETTER, known.ROBUST)):
            others.append((sentence.format(letter), known.BEST, f"{other}, {attack}"))
    for sentence, first, second in others:
        lacking = f"{first} and {second} were not compared"
        claimed = _CLAIMED.get(sentence, Range(0))
        yield Claim(sentence, f"accuracy of {first} - {second}", claimed, lacking=lacking)


_CLAIMED = {
    _DROPS: Range(most=0),
    _HIDDEN: Range(-_GAIN),
    _ITERATIVE: Range(most=-_LOSS),
}


def _under(attack: str) -> str:
    return "clean images" if attack == CLEAN else attack


def _difference(
    sentence: str, claimed: Range, found: Measured, printed: Printed, first: Place, second: Place
) -> Claim:
    """Accuracy at the first place less that at the second, over the images that both have."""
    quantity = f"accuracy of {first.defence} - {second.defence}, {_under(first.attack)}"
    pair = [printed.get(place) for place in (first, second)]
    published = "" if None in pair else f"{pair[0] - pair[1]:.3f}"
    claim = Claim(sentence, quantity, claimed, published=published)
    one, other = found[first].align(found[second], join="inner")
    if not len(one):
        return replace(claim, lacking="the images are not the same")
    images = one.index.get_level_values("id").to_numpy()
    made = statistics.bootstrap_difference(one.to_numpy(), other.to_numpy(), images)
    # Means over draws are no round numbers: nothing is to lie beside a bound by rounding.
    return replace(claim, estimate=Estimate(*(round(x, 12) + 0.0 for x in made[:3]), made.n))
