"""Reasons to doubt the accuracies of an experiment."""

from pathlib import Path

from advdenoise.reporting import flags as rules
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.defences import Defence, defences
from advdenoise.reporting.flags import PASS, SEVERITIES, UNKNOWN, Outcome
from advdenoise.reporting.probes import read_probes
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

WORST = "worst"
_UNKNOWN = "Unknown, {}: {} ({})."
_ALL = "of all defences"


def flags(
    predictions: Results, probe: list[Path] | None = None, *, among_top: bool = False
) -> Cells:
    """Flags: rows are defences, columns flags, from pass to error; sentences are notes.

    The first column is the worst of all, `pass` only where nothing is unknown. What no result
    shows is unknown; without `probe` the flags that need it are. With `among_top` a label among
    the max(1, classes // 100) largest outputs counts as correct.
    """
    cells, notes = [], []
    unknown: dict[tuple[str, str], list[str]] = {}
    probes = read_probes(probe or [])
    rows = defences(predictions, among_top)
    for defence in rows:
        outcomes = rules.flags_of(defence, probes.get(defence.key))
        cells.append(_cell(defence, WORST, outcomes))
        for flag in rules.FLAGS:
            own = [outcome for outcome in outcomes if outcome.flag == flag]
            cells.append(_cell(defence, flag, own))
            if rules.worst(own) == UNKNOWN:
                unknown.setdefault((flag, own[0].sentence), []).append(defence.name)
        notes += [
            f"{defence.name}: {outcome.severity}, {outcome.flag}: {outcome.sentence}"
            for outcome in sorted(outcomes, key=_order, reverse=True)
            if outcome.severity not in (PASS, UNKNOWN)
        ]
    return Cells(cells, [*notes, *_what_is_unknown(unknown, len(rows))])


def _what_is_unknown(unknown: dict[tuple[str, str], list[str]], count: int) -> list[str]:
    """A sentence for each need, with its flags and the defences that lack it."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for (flag, need), names in unknown.items():
        where = _ALL if len(names) == count else "; ".join(names)
        by_place.setdefault((need, where), []).append(flag)
    return [_UNKNOWN.format(", ".join(own), *place) for place, own in by_place.items()]


def _cell(defence: Defence, column: str, outcomes: list[Outcome]) -> Cell:
    """The worst of some outcomes, as text; its counts, its smallest p-value and its sentence."""
    worst = max(outcomes, key=_order)
    return Cell(
        defence.name,
        column,
        "flag",
        "text",
        Estimate.without_interval(_order(worst), worst.images),
        about=defence.about | _details(worst),
        text=worst.severity,
    )


def _details(outcome: Outcome) -> dict:
    return {
        "flag": outcome.flag,
        "attacks": " ".join(sorted("/".join(place) for place in outcome.attacks)),
        "against": outcome.against,
        "expected": outcome.expected,
        "p": min(outcome.p_values, default=float("nan")),
        "sentence": outcome.sentence,
    }


def _order(outcome: Outcome) -> int:
    return SEVERITIES.index(outcome.severity)
