"""Defences and the attacks on them, to be compared image by image."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise.graph.components import is_random
from advdenoise.graph.knowledge import ADAPTIVE, follows_gradient, knowledge, looks_at_model
from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.correct import is_correct, is_skipped
from advdenoise.reporting.points import with_defaults
from advdenoise.reporting.read import Results, iter_groups

if TYPE_CHECKING:
    import pandas as pd

DEFENCE = ("dataset", "classifier", "purifier", "purifier_point")
_IMAGE = ["seed", "id"]
# The loss of functions without a setting of that name, where it is not the cross-entropy.
_LOSSES = {
    "blackbox.square": "margin",
    "gradient.margin_pgd": "margin",
    "minimal.carlini_wagner": "margin",
    "minimal.deepfool": "margin",
    "minimal.fab_t": "margin",
}


class Budget(NamedTuple):
    """A norm and the radius of its ball in pixels of [0,1]."""

    norm: str
    epsilon: float


@dataclass(frozen=True)
class Attacked:
    """The results of one defence under one point of an attack.

    `budget` is None for attacks without one, or with several. `shares` are those of correct draws
    by seed and id, of predictions per pixel the share of right labelled pixels; `rows` are the
    first draw's, with the same index.
    """

    threat: str
    point: str
    entry: dict
    function: str
    settings: dict
    knowledge: str
    budget: Budget | None
    shares: "pd.Series"
    rows: "pd.DataFrame"

    @property
    def place(self) -> tuple[str, str]:
        """Threat and point, by which rows of results name an attack."""
        return self.threat, self.point

    @property
    def follows_gradient(self) -> bool:
        """Whether it takes gradients of a model."""
        return follows_gradient(self.entry, self.point)

    @property
    def looks_at_model(self) -> bool:
        """Whether it uses any model, as noise and corruptions do not."""
        return looks_at_model(self.entry, self.point)

    @property
    def steps(self) -> float:
        """The number of its steps: 1 for FGSM, NaN where it is not a number."""
        default = 1 if self.function == "gradient.fgsm" else math.nan
        steps = self.settings.get("steps", default)
        return steps if isinstance(steps, int | float) else math.nan

    @property
    def loss(self) -> str:
        """The name of its loss; the cross-entropy's is ce."""
        return self.settings.get("loss", _LOSSES.get(self.function, "ce"))

    def name(self, classifier: str) -> str:
        """Its printed name where `classifier` is at hand."""
        return labels.threat(self.threat, self.point, classifier)


@dataclass(frozen=True)
class Defence:
    """A classifier behind a purifier's point, with all attacks on it that results have.

    `about` has its names. `clean` are the shares of clean images, None without them, `draws` how
    often each image was judged, `is_random` whether the purifier draws random numbers, `is_dense`
    whether classes are of pixels.
    """

    about: dict
    clean: "pd.Series | None"
    attacks: tuple[Attacked, ...]
    draws: int
    classes: int
    is_random: bool
    is_dense: bool

    @property
    def key(self) -> tuple[str, ...]:
        """The values of `DEFENCE`."""
        return key_of(self.about)

    @property
    def name(self) -> str:
        """Its printed name."""
        purifier = labels.purifier(self.about)
        return f"{self.about['dataset']}, {self.about['classifier']}: {purifier}"

    def budgets(self) -> list[Budget]:
        """The budgets of all attacks that have one."""
        return sorted({attack.budget for attack in self.attacks if attack.budget})

    def of(self, *kinds: str, budget: Budget | None = None) -> list[Attacked]:
        """The attacks of some kinds of knowledge; by default of all budgets, or without one."""
        attacks = [attack for attack in self.attacks if attack.knowledge in kinds]
        return attacks if budget is None else [a for a in attacks if a.budget == budget]

    def white_box(self, budget: Budget) -> list[Attacked]:
        """The adaptive gradient attacks of one budget."""
        return self.of(ADAPTIVE, budget=budget)

    def attack_name(self, attack: Attacked) -> str:
        """The printed name of an attack on it."""
        return attack.name(self.about["classifier"])


def key_of(about: dict) -> tuple[str, ...]:
    """The values of `DEFENCE` among the names of a group of results."""
    return tuple(about[name] for name in DEFENCE)


def pooled(attacks: Sequence[Attacked]) -> "pd.Series":
    """Of each image that all of these attacks have the smallest share under any of them."""
    import pandas as pd

    return pd.concat([attack.shares for attack in attacks], axis=1, join="inner").min(axis=1)


def defences(predictions: Results, among_top: bool = False) -> list[Defence]:
    """Every defence of these results. Attacks that spared an image are left out."""
    frame = predictions.frame
    spared = frame[is_skipped(frame)]
    left_out = set(zip(spared["threat"], spared["attack_point"], strict=True))
    return [
        _defence(predictions, about, rows, left_out, among_top)
        for about, rows in iter_groups(frame, DEFENCE)
    ]


def _defence(
    predictions: Results, about: dict, rows: "pd.DataFrame", left_out: set, among_top: bool
) -> Defence:
    is_dense = "confusion" in rows and bool(rows["confusion"].notna().all())
    right = _pixels(rows["confusion"]) if is_dense else is_correct(rows, among_top).to_numpy(float)
    rows = rows.assign(right=right)
    clean, attacks = None, []
    for (threat, point), own in rows.groupby(["threat", "attack_point"], sort=False):
        shares = own.groupby(_IMAGE)["right"].mean()
        if threat == CLEAN:
            clean = shares
        elif (threat, point) not in left_out:
            first = own.drop_duplicates(_IMAGE).set_index(_IMAGE).reindex(shares.index)
            attacks.append(_attacked(predictions, about, (threat, point), shares, first))
    return Defence(
        about,
        clean,
        tuple(attacks),
        int(rows["draw"].nunique()),
        int(rows["classes"].iloc[0]) if "classes" in rows else 0,
        is_random(predictions.purifier_point(about)),
        is_dense,
    )


def _attacked(
    predictions: Results,
    about: dict,
    place: tuple[str, str],
    shares: "pd.Series",
    rows: "pd.DataFrame",
) -> Attacked:
    threat, point = place
    entry = predictions.attack(threat)
    attack = with_defaults("attacks", entry["points"][point])
    return Attacked(
        threat,
        point,
        entry,
        attack["function"],
        attack["settings"],
        knowledge(threat, entry, point, about["classifier"], about["purifier"]),
        _budget(attack["settings"], rows),
        shares,
        rows,
    )


def _budget(settings: dict, rows: "pd.DataFrame") -> Budget | None:
    epsilons = rows["epsilon"].dropna().unique() if "epsilon" in rows else []
    if len(epsilons) != 1:
        return None
    # R-FGSM goes beyond epsilon.
    reach = round(float(epsilons[0]) + settings.get("start_radius", 0.0), 6)
    return Budget(settings.get("norm", "linf"), reach)


def _pixels(confusion: Iterable[np.ndarray]) -> np.ndarray:
    """Share of right labelled pixels of each matrix; 1 without labelled pixels."""
    return np.array([_trace_share(np.asarray(counts)) for counts in confusion])


def _trace_share(counts: np.ndarray) -> float:
    classes = math.isqrt(len(counts))
    total = counts.sum()
    return float(counts.reshape(classes, classes).trace() / total) if total else 1.0
