"""Accuracy of a defence where each image is under the attack that is worst for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting import flags
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.correct import is_correct, is_skipped
from advdenoise.reporting.defences import DEFENCE, key_of
from advdenoise.reporting.labels import with_point
from advdenoise.reporting.measures import Label, accuracy_name, cell, spread_of
from advdenoise.reporting.read import Results, iter_groups

if TYPE_CHECKING:
    import pandas as pd

OBLIVIOUS, ADAPTIVE, ALL = "oblivious", "adaptive", "all"
CROSS_FITTED = "all, cross-fitted"


def worst_case(
    predictions: Results, label: Label, unit: str = "%", among_top: bool = False
) -> list[Cell]:
    """Share of images that a defence classifies correctly under every attack (Wilson).

    For each defence the clean accuracy, then the worst case over oblivious attacks, over adaptive
    ones and over all; `label` gets the set of attacks as `attacker`. Each set contains the clean
    images: a deterministic defence is correct on an image if no threat and no clean pass is wrong.

    Draws of a random purifier are averaged for each image and threat first, and the threat with the
    smallest share counts: an attack is chosen for the image, but not for the draw, which is unknown
    to it. The minimum of several shares over few draws is biased downwards, so that of all attacks
    stands a second time, as `CROSS_FITTED`, with the attack chosen on other draws.

    Flags are those of the attacks of a set, and where adaptive attacks are among them all flags of
    the defence.

    The threats may be in several splits; only images under all threats of a set count. `hardest`
    is the threat with the smallest accuracy on these images. Attacks that have the draws of the
    evaluation (`knows_draws`) are left out: no attack in practice has them.
    """
    cells = []
    threats = predictions.frame["threat"]
    fixed = [threat for threat in threats.unique() if predictions.knows_draws(threat)]
    frame = predictions.frame[~threats.isin(fixed)]
    outcomes = flags.of_predictions(predictions, among_top)
    for about, rows in iter_groups(frame, DEFENCE):
        about["split"] = " and ".join(rows["split"].unique())
        for attacker, shares in attack_sets(_shares(rows, among_top)):
            shares_by_column = {attacker: shares.min(axis=1)}
            if attacker == ALL and rows["draw"].nunique() > 1:
                shares_by_column[CROSS_FITTED] = cross_fitted(rows, among_top)
            own = [] if attacker == CLEAN else outcomes.get(key_of(about), [])
            if attacker == OBLIVIOUS:
                own = flags.of_attacks(own, shares.columns)
            for name, worst in shares_by_column.items():
                names = about | {"attacker": name} | _hardest(shares)
                estimate = statistics.wilson(worst.sum(), len(worst))
                metric = accuracy_name(attacker == CLEAN, among_top)
                spread = spread_of(worst.groupby("seed").mean())
                result = cell(label(names), metric, unit, estimate, spread, names)
                cells.append(replace(result, flags=flags.summary(own)))
    return cells


def cross_fitted(rows: "pd.DataFrame", among_top: bool = False) -> "pd.Series":
    """Share of correct draws of each image under its worst attack, by seed and id.

    The attack is chosen on one half of the draws and judged on the other, and the mean of both
    ways is taken: unlike the smallest share over all draws it is not biased downwards. `rows` are
    of one defence and at least two draws; only images under all threats have a share.
    """
    import pandas as pd

    is_even = rows["draw"] % 2 == 0
    halves = [_shares(rows[half], among_top).dropna() for half in (is_even, ~is_even)]
    first, second = (half.to_numpy() for half in halves)
    images = np.arange(len(first))
    ways = second[images, first.argmin(1)], first[images, second.argmin(1)]
    return pd.Series(np.mean(ways, axis=0), halves[0].index)


def threats_by_defence(predictions: Results) -> dict[tuple, list[str]]:
    """The threats of each defence (the values of `DEFENCE`), a name for each attack point."""
    threats: dict[tuple, list[str]] = {}
    for about in predictions.distinct([*DEFENCE, "threat", "attack_point"]):
        *defence, threat, point = about.values()
        threats.setdefault(tuple(defence), []).append(with_point(threat, point))
    return threats


def _shares(rows: "pd.DataFrame", among_top: bool) -> "pd.DataFrame":
    """Share of correct draws: a row for each image, a column for each threat's point.

    What an attack spared counts as correct under it: another attack fooled it.
    """
    hits = (is_correct(rows, among_top) | is_skipped(rows)).astype(float)
    names = ["threat", "attack_point", "seed", "id"]
    return hits.groupby([rows[name] for name in names]).mean().unstack(names[:2])


def attack_sets(values: "pd.DataFrame") -> Iterator[tuple[str, "pd.DataFrame"]]:
    """Each set of attacks with its columns, clean ones among them, and the images under all.

    `values` has a row for each image and a column for each threat's point, NaN where an image is
    not under it.
    """
    adaptive = [parse(threat).purifier is not None for threat, _ in values.columns]
    clean = [threat == CLEAN for threat, _ in values.columns]
    kinds = {
        CLEAN: clean,
        OBLIVIOUS: [not is_adaptive for is_adaptive in adaptive],
        ADAPTIVE: [any(pair) for pair in zip(adaptive, clean, strict=True)],
        ALL: [True] * len(clean),
    }
    for attacker, columns in kinds.items():
        if sum(columns) > sum(clean) or (attacker == CLEAN and any(clean)):
            yield attacker, values.loc[:, columns].dropna()


def _hardest(shares: "pd.DataFrame") -> dict:
    means = shares.mean()
    hardest = "" if shares.empty else with_point(*means.idxmin())
    return {"hardest": hardest, "threats": len(means)}
