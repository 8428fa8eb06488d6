"""Under which limit of its steps an attack with a stop rule perturbs as much as the paper's."""

from typing import TYPE_CHECKING

from scripts.advdenoise import statistics, threats
from scripts.advdenoise.statistics import Estimate
from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import Cell, Cells
from scripts.advdenoise.tables._measures import spread_of
from scripts.advdenoise.tables._propagation import PIXELS
from scripts.advdenoise.tables._read import Results
from scripts.advdenoise.tables._write import published_lines

if TYPE_CHECKING:
    import pandas as pd

UNIT = "pixel^2"  # mean squared differences are told on the scale 0..255
NEAREST, LIMIT = "at the nearest limit", "nearest limit"
_PLACE = ["dataset", "split", "threat", "attack_point"]


def by_primary_mse(limits: Results) -> Cells:
    """The mean squared perturbation under each limit, and the limit nearest to Table 4's.

    Rows are limits, columns are attacks, under their printed names where the paper has them. The
    nearest limit, the smallest of several, is to be written into the configuration by hand.
    """
    lines = {
        line["row"]: line
        for line in published_lines("propagation", "table4")
        if line["column"] == "Primary"
    }
    steps, chosen, notes, printed = [], [], [], {}
    for values, rows in limits.frame.groupby(_PLACE, sort=False):
        about = dict(zip(_PLACE, values, strict=True))
        threat, point = about["threat"], about["attack_point"]
        column = _labels.adversarial_set(limits.attack(threat), threat, point) or threat
        cells = [_cell(f"{limit}", column, group, about) for limit, group in rows.groupby("steps")]
        steps += cells
        line = lines.get(column)
        if line is None:
            continue
        wanted = float(line["value"])
        nearest = min(
            range(len(cells)), key=lambda limit: abs(cells[limit].estimate.value - wanted)
        )
        found = cells[nearest]
        chosen.append(_cell(NEAREST, column, rows[rows["steps"] == nearest], about))
        limit = Estimate(nearest, float("nan"), float("nan"), found.estimate.n)
        chosen.append(Cell(LIMIT, column, "limit", "count", limit, about=about))
        printed[NEAREST, column] = line
        notes.append(_told(about, nearest, found, line, largest=len(cells) - 1))
    return Cells([*chosen, *steps], notes, printed)


def _cell(row: str, column: str, rows: "pd.DataFrame", about: dict) -> Cell:
    values = rows["mse"].astype(float) * PIXELS
    estimate = statistics.bootstrap_mean(values.to_numpy(), rows["id"].to_numpy())
    spread = spread_of(values.groupby(rows["seed"]).mean())
    return Cell(row, column, "MSE", UNIT, estimate, spread, about)


def _told(about: dict, nearest: int, found: Cell, line: dict, largest: int) -> str:
    attack = threats.parse(about["threat"]).attack
    told = (
        f"attacks.{attack}.settings.steps: {nearest} gives {found.estimate.value:.3f} {UNIT} on "
        f"{about['dataset']} {about['split']}; published {line['raw'].strip()}"
    )
    return f"{told}; it is the largest that was tried." if nearest == largest else f"{told}."
