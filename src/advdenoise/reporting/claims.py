"""Claims that a paper makes in words, each with a verdict from the results measured here."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from advdenoise import statistics
from advdenoise.io.files import write_text
from advdenoise.reporting.write import number, write_shown
from advdenoise.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

OTHER_IMAGES = "the images are not the same"
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)
_COLUMNS = ("sentence", "quantity", "published", "value", "low", "high", "n", "verdict")
_RULE = (
    "A claim holds where the whole interval of ours lies in the range that it claims, it does not "
    "where the whole interval lies outside, and else it is not decidable from these results.",
    "Intervals are 95 % intervals over images, and for what is measured in seconds the range of "
    "all repetitions. A published value is printed or follows from printed ones as ours does.",
)


class Range(NamedTuple):
    """The open interval in which a quantity must lie for a claim to hold."""

    least: float = -math.inf
    most: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.most):
            return f"above {self.least:g}"
        if math.isinf(self.least):
            return f"below {self.most:g}"
        return f"between {self.least:g} and {self.most:g}"


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, the quantity that it is about, and the range that it claims for it.

    `published` is the paper's own value as text, empty if it prints none; `reason` says why there
    is no estimate.
    """

    sentence: str
    quantity: str
    claimed: Range
    estimate: Estimate = UNKNOWN
    published: str = ""
    reason: str = ""

    @property
    def verdict(self) -> str:
        """`holds`, `does not`, or `not decidable` with the reason where there is one."""
        if self.reason:
            return f"not decidable: {self.reason}"
        low, high = self.estimate.low, self.estimate.high
        if self.claimed.least < low and high < self.claimed.most:
            return "holds"
        if high <= self.claimed.least or self.claimed.most <= low:
            return "does not"
        return "not decidable"

    def measured(self, result: "Estimate | str") -> "Claim":
        """The claim with its estimate, or with the reason why there is none."""
        if isinstance(result, str):
            return replace(self, reason=result)
        return replace(self, estimate=result)


class Claims(list[Claim]):
    """All claims of a paper, in their order in the table, and the notes below it."""

    notes: tuple[str, ...] = ()

    def add(self, prefix: str, claims: Iterable[Claim]) -> None:
        """Append claims, `prefix` in front of their quantities."""
        self += [replace(claim, quantity=prefix + claim.quantity) for claim in claims]

    def add_missing(self, claims: Iterable[Claim]) -> None:
        """Append the claims whose sentences are not there yet."""
        sentences = {claim.sentence for claim in self}
        self += [claim for claim in claims if claim.sentence not in sentences]


def paired_difference(first: "pd.Series", second: "pd.Series") -> Estimate | str:
    """The mean of `first` - `second`, both by seed and id, over the images that both have.

    The reason why there is none where they have no image in common.
    """
    first, second = first.align(second, join="inner")
    if first.empty:
        return OTHER_IMAGES
    images = first.index.get_level_values("id").to_numpy()
    return statistics.bootstrap_difference(first.to_numpy(), second.to_numpy(), images)


def write(
    claims: Claims,
    paper: str,
    table: str,
    left_out: list[str],
    paths: dict[str, Path],
    title: str = "",
    warnings: Sequence[str] = (),
) -> None:
    """Write `csv`, `markdown` and `latex`, a row for each claim, each atomically.

    `warnings` are sentences about what the numbers come from.
    """
    rows = [_row(claim) for claim in claims]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_text(paths["csv"], text.getvalue())
    notes = [*_RULE, *claims.notes, *warnings, *(f"Left out: {reason}." for reason in left_out)]
    shown = [_shown(claim) for claim in claims]
    head = ["claim", "quantity", "published", "ours", "n", "verdict"]
    write_shown(head, shown, title or f"{paper}: {table}", f"{paper}-{table}", notes, paths)


def _row(claim: Claim) -> list:
    value, low, high, n = claim.estimate
    numbers = [number(value), number(low), number(high)]
    return [claim.sentence, _quantity(claim), claim.published, *numbers, n, claim.verdict]


def _shown(claim: Claim) -> list[str]:
    value, low, high, n = claim.estimate
    ours = "" if not math.isfinite(value) else f"{value:.3g} [{low:.3g}, {high:.3g}]"
    cells = [claim.sentence, _quantity(claim), claim.published, ours, n or "", claim.verdict]
    return [str(cell) for cell in cells]


def _quantity(claim: Claim) -> str:
    return f"{claim.quantity}; claimed: {claim.claimed}"
