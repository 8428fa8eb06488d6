"""What is left of a defence when each image meets the attack that is worst for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting.cells import Cell
from advdenoise.reporting.measures import Label, accuracy_name, cell, is_right, spread_of
from advdenoise.reporting.read import Results

if TYPE_CHECKING:
    import pandas as pd

_DEFENCE = ["dataset", "classifier", "purifier", "purifier_point"]
OBLIVIOUS, ADAPTIVE, ALL = "oblivious", "adaptive", "all"


def worst_case(
    predictions: Results, label: Label, unit: str = "%", among_top: bool = False
) -> list[Cell]:
    """Share of images that a defence has right whatever the attack, over all images (Wilson).

    For each defence the clean accuracy, then the worst case of attackers who do not know the
    purifier, of those who do, and of all; `label` is told which as `attacker`. Clean images are
    among the threats of each: who attacks may also leave an image as it is. So a deterministic
    defence has an image right if no threat makes it wrong.

    Draws of a random purifier are averaged for each image and threat first, and the threat with the
    smallest share counts: the attacker chooses his attack for the image, but not for the draw,
    which he does not know. (The smallest of several shares over few draws is smaller than that over
    many: such a defence gets more draws, or a worst case that is told too low.)

    The threats may stand in several splits; those images count that all threats of the attacker
    were tried on. `hardest` names the threat with the smallest accuracy on these images.
    """
    cells = []
    frame = predictions.frame
    for values, rows in frame.groupby(_DEFENCE, sort=False, observed=True):
        about = dict(zip(_DEFENCE, values, strict=True))
        about["split"] = " and ".join(rows["split"].unique())
        for attacker, shares in _attackers(_shares(rows, among_top)):
            told = about | {"attacker": attacker} | _hardest(shares)
            right = shares.min(axis=1)
            estimate = statistics.wilson(right.sum(), len(right))
            metric = accuracy_name(attacker == CLEAN, among_top)
            spread = spread_of(right.groupby("seed").mean())
            cells.append(cell(label(told), metric, unit, estimate, spread, told))
    return cells


def met(predictions: Results) -> dict[tuple, list[str]]:
    """The threats, a name for each point, that each defence (`_DEFENCE`) was tried on."""
    names = predictions.frame[[*_DEFENCE, "threat", "attack_point"]].drop_duplicates()
    found: dict[tuple, list[str]] = {}
    for *defence, threat, point in names.itertuples(index=False):
        found.setdefault(tuple(defence), []).append(_named(threat, point))
    return found


def _shares(rows: "pd.DataFrame", among_top: bool) -> "pd.DataFrame":
    """Share of draws classified rightly: a row for each image, a column for each threat's point."""
    right = is_right(rows, among_top).astype(float)
    names = ["threat", "attack_point", "seed", "id"]
    return right.groupby([rows[name] for name in names]).mean().unstack(names[:2])


def _attackers(shares: "pd.DataFrame") -> Iterator[tuple[str, "pd.DataFrame"]]:
    """The images that met all that an attacker has, and his columns, clean ones among them."""
    knows = [parse(threat).purifier is not None for threat, _ in shares.columns]
    clean = [threat == CLEAN for threat, _ in shares.columns]
    kinds = {
        CLEAN: clean,
        OBLIVIOUS: [not known for known in knows],
        ADAPTIVE: [known or is_clean for known, is_clean in zip(knows, clean, strict=True)],
        ALL: [True] * len(clean),
    }
    for attacker, columns in kinds.items():
        if sum(columns) > sum(clean) or (attacker == CLEAN and any(clean)):
            yield attacker, shares.loc[:, columns].dropna()


def _hardest(shares: "pd.DataFrame") -> dict:
    means = shares.mean()
    hardest = "" if shares.empty else _named(*means.idxmin())
    return {"hardest": hardest, "threats": len(means)}


def _named(threat: str, point: str) -> str:
    return threat if point == "default" else f"{threat} {point}"
