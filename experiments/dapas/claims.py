"""The claims that "DAPAS" makes in words, computed from our results and from its own tables.

Sides are compared on the same images, with the same resamples, and over several budgets as means
over those that all sides have. A published value is the same function of printed numbers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN
from advdenoise.reporting.claims import OTHER_IMAGES, Claim, Claims, Range
from advdenoise.reporting.read import Results

from . import labels
from .printed import PUBLISHED
from .results import FGSM, I_FGSM, NONE, Attack, Group, Setting, group_by_setting

NOISES = tuple(labels.NOISES.values())
GAUSSIAN, UNIFORM, BIMODAL = NOISES
# The text rounds its numbers to whole percents, and gives no bound for "similar".
_ROUNDING, _SIMILAR, _LARGE = 0.5, 2.0, 0.008
# The largest difference between a number with one digit and one computed from unrounded values.
_DIGIT = 0.15

_KEPT = "Performance is around {} % of the original model's on clean images."
_LEFT = "In the case of an adversarial attack performance drops to about {} % of the original."
_COVERED = "Behind the denoising autoencoder it covers up to {} % of the original."
_ALIKE = "When epsilon is 0.008, 0.016 and 0.032, the ratios of attack on FGSM are similar."
_STRONGER = "The attack is more effective with I-FGSM."
_QUIETER = "I-FGSM is less noisy than FGSM."
_REMOVED = "The ratio of robust on I-FGSM is larger than on FGSM."
_BEST = "In case of an attack the performance of the bimodal distribution is the best."
_WORST = "In case of an attack the uniform distribution shows the worst performance."
_LEAST_LOST = "The uniform distribution has the best performance in terms of reduction."
_MOST_LOST = "The reduction is the worst with the bimodal distribution."
_DEFENDED = "The attack is effectively defended."
_RATIO = "The ratio of attack on I-FGSM drops to {} when epsilon is {}."
_LOST = "The uniform distribution only decreases performance by {}."
_MIDDLE = "The performance of the Gaussian distribution is middle among the three."
_ANY = "The denoise autoencoder can be located in front of any model."


_NO_BASE = "clean images were not judged without a defence"


class Side(NamedTuple):
    """One side of a comparison: an attack of any budget, or `clean`, and a denoiser's noise."""

    method: str
    noise: str
    adaptive: bool = False

    def under(self, epsilon: float) -> tuple[Attack, str]:
        return Attack(self.method, epsilon, self.adaptive), self.noise

    def __str__(self) -> str:
        name = "clean images" if self.method == CLEAN else self.method
        where = "without a defence" if self.noise == NONE else f"behind {self.noise}"
        return f"{'adaptive ' * self.adaptive}{name} {where}"


# mIoU in % of the clean one: [1 + resamples], of printed ones [1].
Shares = dict[tuple[Attack, str], np.ndarray]


class Sources(NamedTuple):
    """Our shares and the printed ones; `n` counts our images."""

    ours: Shares
    printed: Shares
    n: int

    def common_budgets(self, sides: list[Side]) -> list[float]:
        """The budgets that all sides have, in order."""
        of_sides = [
            {key[0].epsilon for key in self.ours if side.under(key[0].epsilon) == key}
            for side in sides
        ]
        return sorted(set.intersection(*of_sides))


def claims(predictions: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    A claim that the results cannot decide says why.
    """
    claims = Claims()
    settings = group_by_setting(predictions)
    for setting in settings:
        images = {image for _, image in setting.groups[0].miou.ids}
        sources = Sources(_shares(setting), _printed(), len(images))
        prefix = f"{', '.join(setting.where)}: " if len(settings) > 1 else ""
        claims.add(
            prefix,
            (
                *_of_clean_images(sources),
                *_of_the_text(sources),
                *_of_the_results(sources),
                *_of_attacks(sources),
                _of_perturbations(predictions, setting),
                *_of_noises(sources),
                *_of_the_middle(sources),
                _of_any_model(sources, setting.where[2]),
                *_of_knowledge(sources),
            ),
        )
    claims.notes = (
        "Ratios are of mIoU to the clean mIoU without a defence, differences of ratios in points. "
        "What the text gives in whole percents is reached where ours rounds to it or lies beyond; "
        f"similar is what differs by less than {_SIMILAR:g} points.",
        *_contradictions(),
    )
    return claims


# ---------------------------------------------------------------- measured and printed ratios


def _shares(setting: Setting) -> Shares:
    """Of several groups with one attack and noise the first counts, as in the tables."""
    shares: Shares = {}
    for group in setting.groups:
        kept = setting.kept(group)
        if kept is not None:
            shares.setdefault((group.attack, group.noise), 100 * kept.values)
    return shares


def _printed() -> Shares:
    """The tables' ratios."""
    shares: Shares = {}
    for table in ("table1", "table2", "table3", "table4"):
        for line in PUBLISHED.numbers(table).values():
            if line["metric"].startswith("Ratio"):
                is_clean = line["attack"] == "none"
                attack = (
                    Attack(CLEAN) if is_clean else Attack(line["attack"], float(line["epsilon"]))
                )
                shares[attack, line["noise"] or NONE] = np.array([float(line["value"])])
    return shares


# ---------------------------------------------------------------- the claims


def _of_clean_images(sources: Sources) -> Iterator[Claim]:
    (line,) = _lines("kept after DAPAS")
    for noise in NOISES:
        claim = Claim(_KEPT.format(line["value"]), f"RatioRED in %, {noise}", Range(_least(line)))
        yield _compared(claim, sources, [Side(CLEAN, noise)], _alone)
    others = {noise: [other for other in NOISES if other != noise] for noise in NOISES}
    for sentence, noise, claimed, rival, name in (
        (_LEAST_LOST, UNIFORM, Range(0), _less_best, "best"),
        (_MOST_LOST, BIMODAL, Range(most=0), _less_worst, "worst"),
    ):
        quantity = f"RatioRED of {noise} - {name} other in points"
        sides = [Side(CLEAN, one) for one in (noise, *others[noise])]
        yield _compared(Claim(sentence, quantity, claimed), sources, sides, rival)


def _of_the_text(sources: Sources) -> Iterator[Claim]:
    """The introduction's numbers, those of I-FGSM's largest budget."""
    (left,), (covered,) = _lines("left"), _lines("left after DAPAS")
    claim = Claim(_LEFT.format(left["value"]), "RatioATT in %, I-FGSM", Range(most=_most(left)))
    yield _compared(claim, sources, [Side(I_FGSM, NONE)], _alone, at_largest=True)
    claim = Claim(
        _COVERED.format(covered["value"]),
        "RatioROB in % of the best denoiser, I-FGSM",
        Range(_least(covered)),
    )
    sides = [Side(I_FGSM, noise) for noise in NOISES]
    yield _compared(claim, sources, sides, _best, at_largest=True)


def _of_the_results(sources: Sources) -> Iterator[Claim]:
    """The numbers in the text on results; `published` are those of the tables."""
    for line, side in _ratios_of_text():
        value, epsilon = float(line["value"]), float(line["epsilon"])
        quantity = f"RatioATT in %, I-FGSM, epsilon {line['epsilon']}, as the results' text has it"
        claimed = Range(value - _DIGIT, value + _DIGIT)
        claim = Claim(_RATIO.format(line["raw"], line["epsilon"]), quantity, claimed)
        if epsilon in sources.common_budgets([side]):
            yield _estimated(claim, sources, [side], [epsilon], _of(side, epsilon))
        else:
            printed = _of(side, epsilon)(sources.printed)[0]
            reason = f"there are no results of {side} at epsilon {line['epsilon']}"
            reason = reason if sources.ours else _NO_BASE
            yield replace(claim, published=f"{printed:.1f}", reason=reason)
    (line,) = _lines("lost after DAPAS")
    claimed = Range(float(line["value"]) - _DIGIT, float(line["value"]) + _DIGIT)
    claim = Claim(_LOST.format(line["raw"]), f"100 - RatioRED in %, {UNIFORM}", claimed)
    yield _compared(claim, sources, [Side(CLEAN, UNIFORM)], lambda kept: 100 - kept)


def _ratios_of_text() -> list[tuple[dict, Side]]:
    lines = PUBLISHED.numbers("textnumbers").values()
    return [(line, Side(I_FGSM, NONE)) for line in lines if "ratio of attack" in line["column"]]


def _of(side: Side, epsilon: float) -> Callable[[Shares], np.ndarray]:
    return lambda shares: shares[side.under(epsilon)]


def _contradictions() -> list[str]:
    """A sentence for each number of the text that differs from the paper's tables."""
    printed = _printed()
    pairs = [
        (line, float(_of(side, float(line["epsilon"]))(printed)[0]))
        for line, side in _ratios_of_text()
    ]
    (line,) = _lines("lost after DAPAS")
    pairs.append((line, 100 - float(printed[Side(CLEAN, UNIFORM).under(math.nan)][0])))
    return [
        f"The text has {line['raw']} ({line['row']}, {line['column']}), the paper's own table "
        f"{value:.1f}."
        for line, value in pairs
        if abs(float(line["value"]) - value) > _DIGIT
    ]


def _of_attacks(sources: Sources) -> Iterator[Claim]:
    yield _alike(sources)
    claim = Claim(_STRONGER, "RatioATT of I-FGSM - FGSM in points", Range(most=0))
    yield _compared(claim, sources, [Side(I_FGSM, NONE), Side(FGSM, NONE)], _difference)
    for noise in NOISES:
        claim = Claim(_REMOVED, f"RatioROB of I-FGSM - FGSM in points, {noise}", Range(0))
        yield _compared(claim, sources, [Side(I_FGSM, noise), Side(FGSM, noise)], _difference)


def _alike(sources: Sources) -> Claim:
    """The spread of FGSM's ratios over large budgets."""
    side = Side(FGSM, NONE)
    quantity = f"RatioATT of FGSM in points, largest - smallest at epsilons from {_LARGE:g} on"
    claim = Claim(_ALIKE, quantity, Range(most=_SIMILAR))
    large = [epsilon for epsilon in sources.common_budgets([side]) if epsilon >= _LARGE]
    if len(large) < 2:
        return replace(claim, reason="FGSM had no two such budgets")

    def extent(shares: Shares) -> np.ndarray:
        values = [shares[side.under(epsilon)] for epsilon in large]
        return np.max(values, axis=0) - np.min(values, axis=0)

    return _estimated(claim, sources, [side], large, extent)


def _of_noises(sources: Sources) -> Iterator[Claim]:
    """Which denoiser is the best and which the worst under attack."""
    for method in (FGSM, I_FGSM):
        for sentence, noise, claimed, rival, name in (
            (_BEST, BIMODAL, Range(0), _less_best, "best"),
            (_WORST, UNIFORM, Range(most=0), _less_worst, "worst"),
        ):
            sides = [Side(method, one) for one in NOISES]
            sides.sort(key=lambda side: side.noise != noise)
            quantity = f"RatioROB of {noise} - {name} other in points, {method}"
            yield _compared(Claim(sentence, quantity, claimed), sources, sides, rival)


def _of_the_middle(sources: Sources) -> Iterator[Claim]:
    """The distance of Gaussian noise from the ends of the range of the two others."""
    for method in (FGSM, I_FGSM):
        quantity = f"RatioROB of {GAUSSIAN}: distance to the nearer other, inside both, {method}"
        sides = [Side(method, noise) for noise in (GAUSSIAN, UNIFORM, BIMODAL)]
        yield _compared(Claim(_MIDDLE, quantity, Range(0)), sources, sides, _inside)


def _of_any_model(sources: Sources, segmenter: str) -> Claim:
    """How much the denoisers recover in front of a segmenter that none was trained for."""
    quantity = f"mean RatioROB of all noises - RatioATT in points, I-FGSM, in front of {segmenter}"
    sides = [*(Side(I_FGSM, noise) for noise in NOISES), Side(I_FGSM, NONE)]
    return _compared(Claim(_ANY, quantity, Range(0)), sources, sides, _mean_less_last)


def _of_knowledge(sources: Sources) -> Iterator[Claim]:
    """How much a denoiser recovers under oblivious and adaptive attacks."""
    for method in (FGSM, I_FGSM):
        for adaptive in (False, True):
            for noise in NOISES:
                name = f"{'adaptive ' * adaptive}{method}"
                quantity = f"RatioROB - RatioATT in points, {noise}, {name}"
                sides = [Side(method, noise, adaptive), Side(method, NONE)]
                yield _compared(Claim(_DEFENDED, quantity, Range(0)), sources, sides, _difference)


def _of_perturbations(predictions: Results, setting: Setting) -> Claim:
    """The mean squared perturbation of both attacks at the largest budget that both have."""
    quantity = "mean squared perturbation of I-FGSM / FGSM"
    claim = Claim(_QUIETER, quantity, Range(most=1))
    groups: dict[Attack, Group] = {}
    for group in setting.groups:
        if group.noise == NONE:
            groups.setdefault(group.attack, group)
    pairs = [
        (groups[attack], groups[attack._replace(method=FGSM)])
        for attack in groups
        if attack.method == I_FGSM and attack._replace(method=FGSM) in groups
    ]
    if not pairs:
        return replace(claim, reason="the two did not have the same budget")
    pair = max(pairs, key=lambda pair: pair[0].attack.epsilon)
    if pair[0].miou.ids != pair[1].miou.ids:
        return replace(claim, reason=OTHER_IMAGES)
    sums = [_squared(predictions, group) for group in pair]
    quantity = f"{quantity}, epsilon {pair[0].attack.budget}"
    estimate = pair[0].miou.estimate(statistics.ratio(*sums))
    return replace(claim, quantity=quantity, estimate=estimate)


def _squared(predictions: Results, group: Group) -> np.ndarray:
    frame = predictions.frame
    rows = frame[np.logical_and.reduce([frame[key] == v for key, v in group.about.items()])]
    values = rows[["mse_before"]].to_numpy(float)
    return statistics.resampled_sums(values, rows["id"].to_numpy())[0][:, 0]


# ---------------------------------------------------------------- estimates


# From the mean shares of each side to the quantity of a claim.
Compare = Callable[..., np.ndarray]


def _compared(
    claim: Claim, sources: Sources, sides: list[Side], compare: Compare, at_largest: bool = False
) -> Claim:
    """A claim about the means of some sides over the budgets that all have."""
    budgets = sources.common_budgets(sides)[-1 if at_largest else 0 :]
    if not budgets:
        absent = [side for side in sides if not sources.common_budgets([side])]
        reason = f"there are no results of {absent[0]}" if absent else "no budget is common to all"
        return replace(claim, reason=reason if sources.ours else _NO_BASE)

    def of(shares: Shares) -> np.ndarray:
        means = [np.mean([shares[s.under(e)] for e in budgets], axis=0) for s in sides]
        return compare(*means)

    return _estimated(_with_budgets(claim, budgets), sources, sides, budgets, of)


def _with_budgets(claim: Claim, budgets: list[float]) -> Claim:
    if math.isnan(budgets[0]):  # of clean images
        return claim
    words = f"epsilon {budgets[0]:g}"
    if len(budgets) > 1:
        words = f"mean over {len(budgets)} epsilons from {budgets[0]:g} to {budgets[-1]:g}"
    return replace(claim, quantity=f"{claim.quantity}, {words}")


def _estimated(
    claim: Claim,
    sources: Sources,
    sides: list[Side],
    budgets: list[float],
    of: Callable[[Shares], np.ndarray],
) -> Claim:
    """The claim with our estimate, and with the published value where all sides are printed."""
    # Rounded, so that floating point decides no comparison with a bound.
    estimate = statistics.interval_of(np.round(of(sources.ours), 9), sources.n)
    is_printed = all(side.under(e) in sources.printed for side in sides for e in budgets)
    published = f"{of(sources.printed)[0]:.1f}" if is_printed else ""
    return replace(claim, estimate=estimate, published=published)


def _alone(share: np.ndarray) -> np.ndarray:
    return share


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first - second


def _best(*shares: np.ndarray) -> np.ndarray:
    return np.max(shares, axis=0)


def _inside(share: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return np.minimum(np.max(others, axis=0) - share, share - np.min(others, axis=0))


def _mean_less_last(*shares: np.ndarray) -> np.ndarray:
    return np.mean(shares[:-1], axis=0) - shares[-1]


def _less_best(share: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return share - np.max(others, axis=0)


def _less_worst(share: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return share - np.min(others, axis=0)


def _lines(column: str) -> list[dict]:
    """The text's numbers of one kind."""
    lines = PUBLISHED.numbers("textnumbers").values()
    return [line for line in lines if line["column"] == column]


def _least(line: dict) -> float:
    return float(line["value"]) - _ROUNDING


def _most(line: dict) -> float:
    return float(line["value"]) + _ROUNDING
