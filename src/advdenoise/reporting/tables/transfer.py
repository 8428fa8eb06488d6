"""Transfer of attacks between purifiers: made through one, judged behind all."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from advdenoise import statistics
from advdenoise.errors import BadInput
from advdenoise.graph.threats import NO_PURIFIER, parse
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.defences import Attacked, Defence, defences
from advdenoise.reporting.measures import cell, spread_of
from advdenoise.reporting.read import Results

if TYPE_CHECKING:
    import pandas as pd

_OTHERS = "mean of others"
_NOTES = (
    "A row's attack goes through the purifier that it names, none of them for an oblivious attack; "
    "where it is the column's own the attack is adaptive. Means are without these cells: a row's "
    "says how far an attack through its purifier transfers, a column's how much its purifier "
    "withstands attacks through others.",
    "Right when clean: of the images that the column's defence has right in all draws when clean.",
)


def matrix(predictions: Results) -> Cells:
    """Transfer: rows are purifiers that an attack goes through, columns those it is judged behind.

    Accuracy over all images, and over those that are right when clean. Attacks are those on the
    classifier at hand that go through two purifiers or more, `none` among them. Raises BadInput
    where there is none.
    """
    grouped: dict[tuple[str, str, str, str], list[tuple[Defence, Attacked]]] = {}
    for defence in defences(predictions):
        for attack in defence.attacks:
            parsed = parse(attack.threat)
            if parsed.victim == defence.about["classifier"]:
                place = defence.about["dataset"], defence.about["classifier"]
                key = (*place, parsed.attack, attack.point)
                grouped.setdefault(key, []).append((defence, attack))
    cells = []
    for (dataset, classifier, name, point), pairs in grouped.items():
        if len({_surrogate(attack) for _, attack in pairs}) > 1:
            head = f"{dataset}, {classifier}: {labels.with_point(name, point)}"
            cells += [*_matrix(head, pairs), *_means(head, pairs)]
    if not cells:
        raise BadInput(
            "transfer.matrix: no attack goes through several purifiers; add threats such as "
            "`pgd@CLASSIFIER+PURIFIER` for each of them to the suite"
        )
    return Cells(cells, _NOTES)


def _matrix(head: str, pairs: Sequence[tuple[Defence, Attacked]]) -> Iterator[Cell]:
    for defence, attack in pairs:
        through = _surrogate(attack)
        row, column = f"{head} through {through}", labels.purifier(defence.about)
        about = defence.about | {
            "threat": attack.threat,
            "attack_point": attack.point,
            "through": through,
        }
        yield _cell((row, column), attack.shares, about)
        if defence.clean is not None:
            right = defence.clean.index[defence.clean == 1]
            shares = attack.shares[attack.shares.index.isin(right)]
            yield _cell((f"{row}, right when clean", column), shares, about | {"right": True})


def _means(head: str, pairs: Sequence[tuple[Defence, Attacked]]) -> Iterator[Cell]:
    """The means of rows and of columns over all images, without the adaptive cells."""
    rows: dict[str, list[pd.Series]] = {}
    columns: dict[str, list[pd.Series]] = {}
    for defence, attack in pairs:
        through = _surrogate(attack)
        if through != defence.about["purifier"]:
            rows.setdefault(through, []).append(attack.shares)
            columns.setdefault(labels.purifier(defence.about), []).append(attack.shares)
    for through, shares in rows.items():
        about = {"through": through, "cells": len(shares)}
        yield _cell((f"{head} through {through}", _OTHERS), _mean(shares), about)
    for purifier, shares in columns.items():
        about = {"purifier": purifier, "cells": len(shares)}
        yield _cell((f"{head}, {_OTHERS}", purifier), _mean(shares), about)


def _surrogate(attack: Attacked) -> str:
    """The purifier that an attack goes through."""
    return parse(attack.threat).purifier or NO_PURIFIER


def _mean(shares: "list[pd.Series]") -> "pd.Series":
    """The mean of several attacks' shares, for each image that all have."""
    import pandas as pd

    return pd.concat(shares, axis=1, join="inner").mean(axis=1)


def _cell(printed: tuple[str, str], shares: "pd.Series", about: dict) -> Cell:
    estimate = statistics.wilson(shares.sum(), len(shares))
    spread = spread_of(shares.groupby("seed").mean())
    return cell(printed, "robust accuracy", "%", estimate, spread, about)
