"""Accuracy of random defences to which each image is submitted several times."""

from collections.abc import Iterator

import numpy as np

from advdenoise.graph.components import is_random
from advdenoise.graph.knowledge import FIXED, knowledge
from advdenoise.ranges import PositiveInt
from advdenoise.reporting import labels, resubmission
from advdenoise.reporting.cells import Cells
from advdenoise.reporting.measures import GROUP, accuracy_name, cell, spread_of
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.reporting.resubmission import Draws
from advdenoise.statistics import Estimate

_NOTES = (
    "One draw: the first. Worst of m: the probability that all of m draws are correct, unbiased. "
    "Majority: the label has strictly more votes than any other class. Worst of m and majority are "
    "comparable between defences of equal numbers of draws alone.",
    "Fixed draw: the attack has the draws of the evaluation, which no attack in practice has; it "
    "tells purification from evasion and ranks nothing.",
)


def by_threat(predictions: Results, *, worst_of: PositiveInt = 5) -> Cells:
    """Accuracy of one draw, mean, worst and majority of draws: rows are threats and purifiers.

    Columns are `one draw`, `mean of draws`, `worst of m` for m = `worst_of` and for all draws, and
    `majority of` all draws. An attack that has the draws of the evaluation (`knows_draws`) is
    judged on the first draw alone, in the column `fixed draw`. Of a purifier without random numbers
    all columns are equal.
    """
    cells = []
    most = int(predictions.frame["draw"].max()) + 1
    for about, rows in iter_groups(predictions.frame, GROUP):
        draws = resubmission.draws_of(rows)
        about["draws"] = draws.hits.shape[1]
        if not is_random(predictions.purifier_point(about)):
            draws = draws.repeated(most)
        metric = accuracy_name(about["threat"] == "clean", False)
        for column, estimate, hits in _measures(draws, _is_fixed(predictions, about), worst_of):
            spread = spread_of([hits[draws.seeds == seed].mean() for seed in set(draws.seeds)])
            cells.append(cell((_row(about), column), metric, "%", estimate, spread, about))
    return Cells(cells, _NOTES)


def _measures(draws: Draws, is_fixed: bool, m: int) -> Iterator[tuple[str, Estimate, np.ndarray]]:
    """Columns with their estimates and the value of each image."""
    hits, count = draws.hits, draws.hits.shape[1]
    if is_fixed:
        yield resubmission.FIXED_DRAW, resubmission.one_shot(draws), hits[:, 0]
        return
    yield resubmission.ONE_SHOT, resubmission.one_shot(draws), hits[:, 0]
    yield resubmission.MEAN, resubmission.mean(draws), hits.mean(axis=1)
    for size in sorted({min(m, count), count}):
        shares = resubmission.worst_shares(hits, size)
        yield f"worst of {size}", resubmission.worst_of(draws, size), shares
    votes = resubmission.majority_hits(draws)
    yield f"majority of {count}", resubmission.majority(draws), votes


def _is_fixed(predictions: Results, about: dict) -> bool:
    if about["threat"] == "clean":
        return False
    entry = predictions.attack(about["threat"])
    names = [about[name] for name in ("attack_point", "classifier", "purifier")]
    return knowledge(about["threat"], entry, *names) == FIXED


def _row(about: dict) -> str:
    threat = labels.threat(about["threat"], about["attack_point"], about["classifier"])
    return f"{about['dataset']}, {about['classifier']}: {threat}, {labels.purifier(about)}"
