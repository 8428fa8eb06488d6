"""Flags: computed reasons to doubt an accuracy under attack.

Three kinds of evidence: the order of two attacks on the same images, tested by the number of
violations and by the mean; facts that attacks record of each image; and the probe of a defence.
Thresholds without a source are this project's.

Sources: Croce et al. 2022 and AutoAttack's checks (0.2 points, five passes, 1e-4, 1e-5); Pintor et
al. 2022, indicators of attack failure (100 points, 0.05 in the last steps); Carlini et al. 2019.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.graph.knowledge import ADAPTIVE, GREY, OBLIVIOUS, QUERY, TRANSFER
from advdenoise.reporting.defences import (
    DEFENCE,
    Attacked,
    Budget,
    Defence,
    defences,
    key_of,
    pooled,
)
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.significance import (
    binomial_tail,
    fisher,
    holm,
    images_for_power,
    sign_flip,
)

if TYPE_CHECKING:
    import pandas as pd

PASS, UNKNOWN, WARN, SUSPECT, ERROR = "pass", "unknown", "warn", "suspect", "error"
SEVERITIES = (PASS, UNKNOWN, WARN, SUSPECT, ERROR)  # what is unknown is not pass

LEVEL = 0.05
ORDER_RATE, CONVERGENCE_RATE = 0.002, 0.01  # of images that violate an order by chance
FEWEST_IMAGES, FEWEST_DRAWS, FEWEST_STEPS, FEWEST_DISCORDANT = 50, 10, 10, 6
# A share of correct draws, or of right pixels, that is lower by so much fools an image.
_FOOLS, _FOOLS_PIXELS = 0.5, 0.05
_PLATEAU, _PLATEAU_IMAGES = 0.05, 0.1
_ZERO_CALLS, _ZERO_IMAGES, _BAD_IMAGES, _SILENT_IMAGES = 0.5, 0.1, 0.01, 0.02
_FLAT, _FLAT_IMAGES = 0.01, 0.1
_UNSTABLE = 0.1
_ROUNDING = 1e-6
_LOGITS, _EPSILON_ONE = 1e-4, 1.0

Probe = Mapping[str, float | bool]


@dataclass(frozen=True)
class Outcome:
    """What one flag says of a defence or of some attacks on it.

    `attacks` are the threats and points that it is about, none for all of them. `against` images of
    `images` speak against the number, `expected` for it. `p_values` are those of its tests, which
    `assign_severities` turns into the severity, `limit` the most that they can say.
    """

    flag: str
    severity: str = PASS
    sentence: str = ""
    attacks: frozenset[tuple[str, str]] = frozenset()
    against: int = 0
    expected: int = 0
    images: int = 0
    p_values: tuple[float, ...] = ()
    limit: str = SUSPECT


class Comparison(NamedTuple):
    """An expected order of shares on the same images: how many `against` it, and tests of it."""

    against: int
    expected: int
    images: int
    mean: float
    violations: float | None  # None where draws are too few to tell a violation from chance

    @property
    def p_values(self) -> tuple[float, ...]:
        """Of the number of violations, where it has one, and of the mean."""
        return (self.mean,) if self.violations is None else (self.violations, self.mean)


def compare(
    smaller: "pd.Series", larger: "pd.Series", defence: Defence, rate: float = ORDER_RATE
) -> Comparison:
    """Test the order `smaller` <= `larger` of two attacks' shares on the images that both have.

    An image is against it where `smaller` is above `larger` by half of the draws (of predictions
    per pixel by 5 % of the pixels). With random draws its counts must differ by Fisher's exact
    test at the level `rate` too: else equal attacks violate an order by their draws alone. The test
    of violations is the probability of as many where a share `rate` of images violates, that of the
    mean McNemar's, or sign flips of the differences.
    """
    smaller, larger = smaller.align(larger, join="inner")
    difference = (smaller - larger).to_numpy(float)
    least = (_FOOLS_PIXELS if defence.is_dense else _FOOLS) - _ROUNDING
    against, expected = difference >= least, difference <= -least
    p = None
    if not defence.is_random:
        p = binomial_tail(int(against.sum()), len(difference), rate)
    elif not defence.is_dense and _separates(defence.draws, rate):
        counts = np.rint(np.stack([smaller, larger]).astype(float) * defence.draws).astype(int)
        beyond = _beyond_chance(defence.draws, rate)[counts[0], counts[1]]
        against = against & beyond
        p = binomial_tail(int(against.sum()), len(difference), rate)
    counts_of = int(against.sum()), int(expected.sum())
    return Comparison(*counts_of, len(difference), sign_flip(difference), p)


def _separates(draws: int, rate: float) -> bool:
    """Whether all draws against none is beyond chance."""
    return fisher(draws, draws, 0, draws) <= rate


@functools.cache
def _beyond_chance(draws: int, rate: float) -> np.ndarray:
    """Whether one count of correct draws is above another beyond chance, for all pairs."""
    counts = range(draws + 1)
    p_values = [[fisher(first, draws, second, draws) for second in counts] for first in counts]
    return np.array(p_values) <= rate


def flags_of(defence: Defence, probe: Probe | None = None) -> list[Outcome]:
    """What every flag says of a defence: at least one outcome of each, `UNKNOWN` without rows.

    The p-values of all its tests are corrected together by Holm's method: at 5 % they are suspect,
    and those that are below 5 % without the correction warn.
    """
    outcomes: list[Outcome] = []
    if _hides_randomness(probe):  # draws that differ unsaid: a violation may be one of them
        defence = replace(defence, is_random=True)
    for name, (flag, needs) in FLAGS.items():
        results = [replace(outcome, flag=name) for outcome in flag(defence, probe)]
        outcomes += results or [Outcome(name, UNKNOWN, needs)]
    return _with_reasons(assign_severities(outcomes))


def assign_severities(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same outcomes with the severity that their tests have together."""
    adjusted = iter(holm([p for outcome in outcomes for p in outcome.p_values]))
    judged = []
    for outcome in outcomes:
        own = [next(adjusted) for _ in outcome.p_values]
        if own:
            severity = WARN if min(outcome.p_values) <= LEVEL else PASS
            if min(own) <= LEVEL:
                severity = outcome.limit
            outcome = replace(outcome, severity=severity)
        judged.append(outcome)
    return judged


def worst(outcomes: Sequence[Outcome]) -> str:
    """The worst severity in the order of `SEVERITIES`; `UNKNOWN` of nothing."""
    return max((o.severity for o in outcomes), key=SEVERITIES.index, default=UNKNOWN)


def of_predictions(
    predictions: Results, among_top: bool = False
) -> dict[tuple[str, ...], list[Outcome]]:
    """The outcomes of each defence of these results, by `key_of`, without probes.

    Without defences whose results come from functions that are no longer there.
    """
    outcomes = {}
    for about, rows in iter_groups(predictions.frame, DEFENCE):
        with contextlib.suppress(BadInput):
            (defence,) = defences(predictions.of(rows), among_top)
            outcomes[key_of(about)] = flags_of(defence)
    return outcomes


def of_attacks(outcomes: Sequence[Outcome], attacks: Iterable[tuple[str, str]]) -> list[Outcome]:
    """The outcomes that are about any of these threats and points."""
    places = frozenset(attacks)
    return [outcome for outcome in outcomes if outcome.attacks & places]


def summary(outcomes: Sequence[Outcome]) -> str:
    """Each flag of doubt by its worst severity, such as `suspect: blackbox; warn: plateau`."""
    severities = {o.flag: worst([x for x in outcomes if x.flag == o.flag]) for o in outcomes}
    names: dict[str, list[str]] = {}
    for flag, severity in severities.items():
        names.setdefault(severity, []).append(flag)
    parts = [f"{s}: {', '.join(names[s])}" for s in (ERROR, SUSPECT, WARN) if s in names]
    return "; ".join(parts)


def _with_reasons(outcomes: list[Outcome]) -> list[Outcome]:
    """A flat loss is suspect beside zero gradients or a better query attack."""
    reasons = {o.flag for o in outcomes if o.severity in (WARN, SUSPECT)}
    if not reasons & {"zero_gradient", "blackbox"}:
        return outcomes
    return [
        replace(o, severity=SUSPECT) if (o.flag, o.severity) == ("flat_loss", WARN) else o
        for o in outcomes
    ]


# ---------------------------------------------------------------- order of attacks


def _order(
    defence: Defence, strong: Sequence[Attacked], weak: Attacked, sentence: str
) -> Iterator[Outcome]:
    """`weak` must fool no image that none of `strong` fools; the sentence has `{weak}`."""
    expected = pooled(strong)
    result = compare(expected, weak.shares, defence)
    if not result.images:
        return
    value = f"{100 * expected.mean():.1f} %"
    p = f"p = {min(result.p_values):.2g}"
    name = defence.attack_name(weak)
    text = sentence.format(weak=name, b=result.against, n=result.images, p=p, value=value)
    places = frozenset(attack.place for attack in strong)
    counts = result.against, result.expected, result.images
    yield Outcome("", PASS, text, places, *counts, result.p_values)


def one_step(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """FGSM fools images that iterative attacks of the same budget and knowledge do not.

    Of attacks on the defence alone: elsewhere one step is known to transfer better than several
    (Kurakin et al. 2017).
    """
    text = (
        "{weak}, one step, fools {b} of {n} images that iterative attacks do not ({p}): read "
        "{value} as an upper bound."
    )
    for kind in (ADAPTIVE, GREY):
        for budget in defence.budgets():
            attacks = [a for a in defence.of(kind, budget=budget) if a.follows_gradient]
            iterative = [attack for attack in attacks if attack.steps >= FEWEST_STEPS]
            for attack in attacks if iterative else []:
                if attack.steps == 1:
                    yield from _order(defence, iterative, attack, text)


def blackbox(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """A query attack on the defence fools images that adaptive gradient attacks do not."""
    text = (
        "{weak}, by queries, fools {b} of {n} images that adaptive gradient attacks do not ({p}): "
        "the gradient is masked, read {value} as an upper bound."
    )
    yield from _weaker(defence, defence.of(QUERY), text)


def noise(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Noise of the same size fools images that adaptive gradient attacks do not."""
    text = (
        "{weak}, which needs no model, fools {b} of {n} images that adaptive gradient attacks "
        "do not ({p}): read {value} as an upper bound."
    )
    weak = [attack for attack in defence.of(OBLIVIOUS, TRANSFER) if not attack.looks_at_model]
    yield from _weaker(defence, weak, text)


def oblivious(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """An attack of less knowledge fools images that adaptive gradient attacks do not."""
    text = (
        "{weak}, of less knowledge, fools {b} of {n} images that adaptive gradient attacks do not "
        "({p}): the adaptive attack is too weak, read {value} as an upper bound."
    )
    weak = [attack for attack in defence.of(OBLIVIOUS, TRANSFER) if attack.looks_at_model]
    yield from _weaker(defence, weak, text)


def _weaker(defence: Defence, weak: Sequence[Attacked], text: str) -> Iterator[Outcome]:
    for attack in weak:
        strong = defence.white_box(attack.budget) if attack.budget else []
        if strong:
            yield from _order(defence, strong, attack, text)


def unconverged(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Twice the steps of the same attack, which keeps its best iterate, fool more images."""
    for short, long in _step_pairs(defence):
        result = compare(short.shares, long.shares, defence, CONVERGENCE_RATE)
        p = result.mean if result.violations is None else result.violations
        text = (
            f"{defence.attack_name(long)}: twice the steps fool {result.against} more of "
            f"{result.images} images (p = {p:.2g}): not converged."
        )
        places = frozenset((short.place, long.place))
        yield Outcome("", PASS, text, places, *result[:3], (p,))


def _step_pairs(defence: Defence) -> Iterator[tuple[Attacked, Attacked]]:
    """Points of one attack entry that differ in their steps alone, k and 2 k; the longest pair."""
    groups: dict[str, dict[float, Attacked]] = {}
    for attack in defence.of(ADAPTIVE):
        if attack.budget and attack.settings.get("returns") in ("best", "fooled"):
            groups.setdefault(_without(attack, "steps"), {})[attack.steps] = attack
    for by_steps in groups.values():
        longest = max((steps for steps in by_steps if 2 * steps in by_steps), default=None)
        if longest is not None:
            yield by_steps[longest], by_steps[2 * longest]


def monotone(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """A larger ball of the same attack leaves more images right."""
    groups: dict[str, list[Attacked]] = {}
    for attack in defence.of(ADAPTIVE, QUERY):
        if attack.budget:
            groups.setdefault(_without(attack, "epsilon"), []).append(attack)
    for attacks in groups.values():
        attacks.sort(key=lambda attack: attack.budget or ())
        for small, large in zip(attacks, attacks[1:], strict=False):
            result = compare(large.shares, small.shares, defence)
            text = (
                f"{defence.attack_name(large)}: {result.against} of {result.images} images that "
                f"the next smaller epsilon fools are right, {result.expected} the other way round "
                f"(p = {result.mean:.2g}): the attack is too weak."
            )
            yield Outcome("", PASS, text, frozenset([large.place]), *result[:3], (result.mean,))


def _without(attack: Attacked, setting: str) -> str:
    """An attack's threat, function and settings without one of them, as text."""
    settings = {name: value for name, value in attack.settings.items() if name != setting}
    return f"{attack.threat} {attack.function} {sorted(settings.items())}"


def huge_epsilon(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """At an epsilon of 1 any image is in reach: no more may remain than by chance."""
    attacks = defence.white_box(Budget("linf", _EPSILON_ONE))
    if not attacks or defence.classes < 2 or defence.is_dense:
        return
    shares = pooled(attacks)
    # A share is less random than a draw, which only makes the test more careful.
    right, n = int(shares.sum() + _ROUNDING), len(shares)
    p = binomial_tail(right, n, 1 / defence.classes)
    text = (
        f"At epsilon 1 any image is in reach, yet {100 * shares.mean():.1f} % remain (p = {p:.2g} "
        "by chance): the attack, not the defence, fails."
    )
    severity = SUSPECT if p <= LEVEL else PASS
    yield Outcome("", severity, text, _places(defence.of(ADAPTIVE)), right, n - right, n)


def above_clean(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """The accuracy under an attack is above that of clean images."""
    for attack in defence.attacks if defence.clean is not None else ():
        if not attack.looks_at_model or defence.clean is None:
            continue
        result = compare(attack.shares, defence.clean, defence)
        text = (
            f"{defence.attack_name(attack)}: {result.against} of {result.images} images are right "
            f"under attack alone, {result.expected} when clean alone (p = {result.mean:.2g}): the "
            "perturbation tells the label."
        )
        yield Outcome("", PASS, text, frozenset([attack.place]), *result[:3], (result.mean,))


def accepted(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """An attack fools more on draws of its own than on those of the evaluation."""
    if not defence.is_random:
        yield Outcome("")
        return
    for attack in defence.of(ADAPTIVE, QUERY) if not defence.is_dense else ():
        name = "fooled_last" if _returns_last(attack) else "fooled_at"
        rows = _known(attack, [name])
        if not len(rows):
            continue
        fooled = (rows[name] >= 0 if name == "fooled_at" else rows[name]).astype(float)
        difference = (fooled - (1 - attack.shares.reindex(rows.index))).to_numpy(float)
        p = sign_flip(difference)
        text = (
            f"{defence.attack_name(attack)} fools {100 * fooled.mean():.1f} % on draws of its own "
            f"and {100 * (fooled - difference).mean():.1f} % on those of the evaluation (p = "
            f"{p:.2g}): lucky draws."
        )
        against, expected = (int((sign * difference >= _FOOLS).sum()) for sign in (1, -1))
        counts = against, expected, len(rows)
        yield Outcome("", PASS, text, frozenset([attack.place]), *counts, (p,), WARN)


# ---------------------------------------------------------------- facts of attacks


def _known(attack: Attacked, columns: Sequence[str]) -> "pd.DataFrame":
    """The rows of an attack in which all these columns are known."""
    if not {*columns} <= {*attack.rows.columns}:
        return attack.rows.iloc[:0]
    return attack.rows.dropna(subset=[*columns])


def _facts(
    defence: Defence,
    columns: Sequence[str],
    marks: Callable[["pd.DataFrame"], "pd.Series"],
    severity: Callable[[int, int, int], str],
    sentence: str,
    wanted: Callable[[Attacked], bool] = lambda attack: True,
) -> Iterator[Outcome]:
    """Gradient attacks on the defence, by images that `marks` of those that no such attack fools.

    `severity` takes their number, that of images which are not fooled, and that of all.
    """
    for attack in defence.of(ADAPTIVE, GREY):
        rows = _known(attack, columns)
        if not len(rows) or not attack.follows_gradient or not wanted(attack):
            continue
        strongest = defence.white_box(attack.budget) if attack.budget else []
        shares = pooled([attack, *strongest]).reindex(rows.index)
        rows = rows[(shares >= _FOOLS).to_numpy()]
        count, left, n = int(marks(rows).sum()), len(rows), len(shares)
        text = sentence.format(
            attack=defence.attack_name(attack), count=count, share=f"{100 * count / n:.1f} %", n=n
        )
        kind = severity(count, left, n)
        yield Outcome("", kind, text, frozenset([attack.place]), count, left - count, n)


def plateau(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """The loss still rises in the last tenth of the steps."""

    def marks(rows: "pd.DataFrame") -> "pd.Series":
        rise = rows["loss_best"] - rows["loss_start"]
        return rows["loss_best"] - rows["loss_recent"] > _PLATEAU * rise

    def severity(count: int, left: int, n: int) -> str:
        return WARN if count > _PLATEAU_IMAGES * left else PASS

    text = (
        "{attack}: the loss of {count} of {n} images still rises in the last tenth of the steps: "
        "more steps may fool more."
    )
    columns = ("loss_start", "loss_recent", "loss_best")
    yield from _facts(defence, columns, marks, severity, text)


def zero_gradient(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Images whose gradient is exactly 0 in half of the backward passes or more."""

    def marks(rows: "pd.DataFrame") -> "pd.Series":
        passes = rows["backward"]
        return (passes > 0) & (rows["zero_gradients"] >= _ZERO_CALLS * passes)

    def severity(count: int, left: int, n: int) -> str:
        return SUSPECT if count >= _ZERO_IMAGES * n and count else WARN if count else PASS

    yield from _facts(
        defence, ("backward", "zero_gradients"), marks, severity, _GRADIENTS.format(kind="zero")
    )


def bad_gradient(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Images whose gradient was not finite at least once."""

    def severity(count: int, left: int, n: int) -> str:
        return SUSPECT if count >= _BAD_IMAGES * n and count else WARN if count else PASS

    yield from _facts(
        defence,
        ("bad_gradients",),
        lambda rows: rows["bad_gradients"] > 0,
        severity,
        _GRADIENTS.format(kind="non-finite"),
    )


_GRADIENTS = (
    "{{attack}}: {{share}} of images have a {kind} gradient: what follows gradients is blind "
    "there; see the query attack."
)


def flat_loss(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Images that are not fooled and whose loss hardly rises."""

    def marks(rows: "pd.DataFrame") -> "pd.Series":
        least = _FLAT * rows["loss_start"].abs().clip(lower=_FLAT)
        return rows["loss_best"] - rows["loss_start"] <= least

    def severity(count: int, left: int, n: int) -> str:
        return WARN if count >= _FLAT_IMAGES * n and count else PASS

    text = "{attack}: the loss of {count} of {n} images hardly rises."
    yield from _facts(defence, ("loss_start", "loss_best"), marks, severity, text)


def silent(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Iterates fooled, and the last one, which is returned, does not."""

    def marks(rows: "pd.DataFrame") -> "pd.Series":
        return (rows["fooled_at"] >= 0) & ~rows["fooled_last"].astype(bool)

    def severity(count: int, left: int, n: int) -> str:
        return SUSPECT if count > _SILENT_IMAGES * n else WARN if count else PASS

    text = "{attack}: {count} of {n} images were fooled on the way and not at the last step."
    columns = ("fooled_at", "fooled_last")
    yield from _facts(defence, columns, marks, severity, text, _returns_last)
    others = [a for a in defence.of(ADAPTIVE, GREY) if not _returns_last(a)]
    if any(len(_known(attack, columns)) for attack in others):
        yield Outcome("", attacks=_places(others))


def _returns_last(attack: Attacked) -> bool:
    return attack.settings.get("returns", "last") == "last"


def budget(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Perturbations beyond their budget, or not finite."""
    for attack in defence.attacks:
        norm = attack.settings.get("norm", "linf")
        if norm not in attack.rows or not attack.rows["epsilon"].notna().any():
            continue
        limit = attack.rows["epsilon"] + attack.settings.get("start_radius", 0.0) + _ROUNDING
        size = attack.rows[norm].astype(float)
        count = int((~(size <= limit)).sum())
        text = (
            f"{defence.attack_name(attack)}: {count} of {len(size)} perturbations are beyond "
            "epsilon or not finite: the number is of another attack."
        )
        severity = ERROR if count else PASS
        yield Outcome("", severity, text, frozenset([attack.place]), count, 0, len(size))


# ---------------------------------------------------------------- the defence itself


def few(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Fewer images than differences between defences need."""
    n = min((len(attack.shares) for attack in defence.attacks), default=0)
    if n:
        yield Outcome("", PASS if n >= FEWEST_IMAGES else WARN, cannot_separate(n), images=n)


def cannot_separate(n: int, discordance: float = 0.2, difference: float = 0.1) -> str:
    """A sentence: how many images would tell two defences of this difference apart."""
    return (
        f"Two defences cannot be told apart with {n} images: about "
        f"{images_for_power(discordance, difference)} would do for accuracies that differ by "
        f"{100 * difference:.0f} points, on {100 * discordance:.0f} % of images one way or the "
        "other."
    )


def unstable(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """The loss changes much at points near an image."""
    if probe is not None and "instability" in probe:
        value = probe["instability"]
        text = f"Near an image the loss changes by {100 * value:.0f} % of itself, on average."
        yield Outcome("", WARN if value > _UNSTABLE else PASS, text)


def random(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Random outputs: enough draws in the attack and in the evaluation, and none that hide."""
    if _hides_randomness(probe):
        text = "Draws random numbers that no seed fixes: no number can be computed again."
        yield Outcome("", SUSPECT, text)
        return
    if not defence.is_random:
        if probe is None:
            return
        text = "Outputs differ between passes, though the purifier lists no `noise`."
        yield Outcome("", SUSPECT if _differs(probe) else PASS, text)
        return
    attacks = [a for a in defence.of(ADAPTIVE) if a.follows_gradient]
    draws = max((attack.entry.get("draws", 1) for attack in attacks), default=0)
    text = (
        f"Draws random numbers: draws of the evaluation {defence.draws}, of the attack {draws}; "
        f"at least {FEWEST_DRAWS} of each are needed."
    )
    yield Outcome("", PASS if min(draws, defence.draws) >= FEWEST_DRAWS else SUSPECT, text)


def _hides_randomness(probe: Probe | None) -> bool:
    return probe is not None and bool(probe.get("hidden_randomness", False))


def _differs(probe: Probe) -> bool:
    """Whether draws differ in accuracy, or in normalised logits by more than 1e-4."""
    return bool(probe.get("accuracy_range", 0) > 0 or probe.get("logit_distance", 0) > _LOGITS)


def loop(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """A defence that takes gradients itself, and no attack that goes through them."""
    if probe is None or "loop" not in probe:
        return
    through = [a for a in defence.of(ADAPTIVE) if a.follows_gradient and _is_through(a.entry)]
    text = (
        "Optimises at inference: an attack through its loop is needed (`through` full or "
        "intermediate, or the denoiser's gradient with `forward: purifier`)."
    )
    yield Outcome("", SUSPECT if probe["loop"] and not through else PASS, text)


def _is_through(entry: dict) -> bool:
    through = entry.get("through", "full")
    return through in ("full", "intermediate") or entry.get("forward") == "purifier"


def softmax(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """Outputs that are probabilities, whose logarithm a loss takes for logits."""
    if probe is None or "softmax" not in probe:
        return
    attacks = [a for a in defence.of(ADAPTIVE) if a.follows_gradient]
    fooled = [a for a in attacks if a.loss in ("ce", "dlr")]
    text = "Outputs are probabilities: the losses CE and DLR take them for logits and vanish."
    severity = SUSPECT if len(fooled) == len(attacks) else WARN
    yield Outcome("", severity if probe["softmax"] else PASS, text, _places(fooled))


def train_mode(defence: Defence, probe: Probe | None) -> Iterator[Outcome]:
    """A network in training mode, or whose outputs depend on the rest of the batch."""
    if probe is None or "train_mode" not in probe:
        return
    is_wrong = probe["train_mode"] or probe.get("batch_distance", 0) > _LOGITS
    text = "The network is in training mode, or an output depends on the other images of a batch."
    yield Outcome("", ERROR if is_wrong else PASS, text)


def _places(attacks: Sequence[Attacked]) -> frozenset[tuple[str, str]]:
    return frozenset(attack.place for attack in attacks)


_FACTS = "no gradient attack on the defence has recorded this"
_PROBE = "the defence was not probed"
Flag = Callable[[Defence, Probe | None], Iterator[Outcome]]
# Each flag, and what it needs where nothing is known.
FLAGS: dict[str, tuple[Flag, str]] = {
    "one_step": (
        one_step,
        f"needs FGSM and an attack of {FEWEST_STEPS} steps or more on the defence, of one budget",
    ),
    "monotone": (monotone, "needs an attack on the defence with a list of epsilons"),
    "huge_epsilon": (huge_epsilon, "needs an adaptive gradient attack at epsilon 1"),
    "blackbox": (blackbox, "needs a query attack and a gradient attack on the defence"),
    "noise": (noise, "needs noise and an adaptive gradient attack of one budget"),
    "unconverged": (
        unconverged,
        "needs two points of an adaptive attack that returns its best iterate, one of them with "
        "twice the steps",
    ),
    "plateau": (plateau, _FACTS),
    "zero_gradient": (zero_gradient, _FACTS),
    "bad_gradient": (bad_gradient, _FACTS),
    "flat_loss": (flat_loss, _FACTS),
    "unstable": (unstable, _PROBE),
    "oblivious": (oblivious, "needs an attack of less knowledge and an adaptive gradient attack"),
    "above_clean": (above_clean, "needs clean images and an attack"),
    "random": (random, _PROBE),
    "loop": (loop, _PROBE),
    "softmax": (softmax, _PROBE),
    "train_mode": (train_mode, _PROBE),
    "silent": (silent, _FACTS),
    "accepted": (accepted, "needs a random defence and what attacks record"),
    "budget": (budget, "needs an attack with a budget"),
    "few": (few, "needs an attack"),
}
