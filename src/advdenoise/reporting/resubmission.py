"""Accuracy of a random defence to which each image is submitted several times."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise import statistics
from advdenoise.reporting.correct import is_skipped
from advdenoise.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

ONE_SHOT, MEAN, MAJORITY, FIXED_DRAW = "one draw", "mean of draws", "majority", "fixed draw"
_IMAGE = ["seed", "id"]


class Draws(NamedTuple):
    """Predictions of a group of rows, all [N, R] for N images and R draws in order.

    `labels` and `ids` are [N], `seeds` the replicate of each image [N].
    """

    predictions: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    seeds: np.ndarray

    @property
    def hits(self) -> np.ndarray:
        """Whether each draw is correct, [N, R]."""
        return self.predictions == self.labels[:, None]

    def repeated(self, count: int) -> "Draws":
        """The first draw `count` times, of a defence whose draws are all the same."""
        return self._replace(predictions=self.predictions[:, :1].repeat(count, axis=1))


def draws_of(rows: "pd.DataFrame") -> Draws:
    """The draws of rows under one threat, of images that the attack did not spare.

    Draws that an image lacks are left out for all images.
    """
    rows = rows[~is_skipped(rows)]
    table = rows.set_index([*_IMAGE, "draw"])["prediction"].unstack("draw").dropna(axis=1)
    labels = rows.groupby(_IMAGE)["label"].first().reindex(table.index)
    seeds, ids = (table.index.get_level_values(name).to_numpy() for name in _IMAGE)
    return Draws(table.to_numpy(), labels.to_numpy(), ids, seeds)


def one_shot(draws: Draws) -> Estimate:
    """Share of images whose first draw is correct (Wilson)."""
    return _wilson(draws.hits[:, 0])


def mean(draws: Draws) -> Estimate:
    """Mean over images of the share of correct draws (bootstrap over images)."""
    return statistics.bootstrap_mean(draws.hits.mean(axis=1), draws.ids)


def worst_of(draws: Draws, m: int) -> Estimate:
    """Probability that all of `m` draws are correct, mean over images.

    With c of R draws correct it is C(c, m) / C(R, m) for an image, which is unbiased, as (c/R)^m is
    not. Wilson for m = R, else a bootstrap over images. Raises ValueError for m above R.
    """
    values = worst_shares(draws.hits, m)
    if m == draws.hits.shape[1]:
        return _wilson(values)
    return statistics.bootstrap_mean(values, draws.ids)


def worst_shares(hits: np.ndarray, m: int) -> np.ndarray:
    """C(c, m) / C(R, m) of each image, [N], for `hits` [N, R] with c correct ones of R."""
    total = hits.shape[1]
    if not 1 <= m <= total:
        raise ValueError(f"m must be in [1, {total}], got {m}")
    ways = [math.comb(correct, m) / math.comb(total, m) for correct in range(total + 1)]
    return np.array(ways)[hits.sum(axis=1)]


def majority(draws: Draws) -> Estimate:
    """Share of images whose label has strictly more votes than any other class (Wilson)."""
    return _wilson(majority_hits(draws))


def majority_hits(draws: Draws) -> np.ndarray:
    """Whether the label of each image has strictly more votes than any other class, [N]."""
    own = draws.hits.sum(axis=1)
    # Votes for the class of each draw that is not the label.
    votes = (draws.predictions[:, :, None] == draws.predictions[:, None, :]).sum(axis=2)
    return own > np.where(draws.hits, 0, votes).max(axis=1)


def _wilson(hits: np.ndarray) -> Estimate:
    return statistics.wilson(hits.sum(), len(hits))
