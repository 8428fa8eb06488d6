"""The cost of jobs, from the benchmark files of Snakemake."""

import csv
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.ops.files import require_readable, why_not_readable

log = logging.getLogger(__name__)

MISSING = ("NA", "-", "")


class Cost(NamedTuple):
    """One job, or several: seconds of CPU, seconds of wall time, the largest memory in MB."""

    jobs: int
    core_seconds: float
    wall_seconds: float
    max_rss: float


def collect(folder: Path) -> dict[str, Cost]:
    """The cost of each rule whose jobs have benchmark files at `{folder}/{rule}/**.tsv`."""
    require_readable(folder)
    paths = sorted(folder.glob("*/**/*.tsv"))
    if not paths:
        raise BadInput(f"There are no benchmark files under {folder}: run `make quick` first.")
    return by_rule((path.relative_to(folder).parts[0], path) for path in paths)


def by_rule(jobs: Iterable[tuple[str, Path]]) -> dict[str, Cost]:
    """The cost of each rule, of pairs of a job's rule and its benchmark file.

    Damaged files are left out with a line in the log; DamagedFile if all are.
    """
    costs: dict[str, list[Cost]] = {}
    bad = None
    for rule, path in jobs:
        try:
            costs.setdefault(rule, []).append(read(path))
        except DamagedFile as error:
            bad = error
            log.warning("Left out: %s", error)
    if bad and not any(costs.values()):
        raise bad
    return {rule: total(of_rule) for rule, of_rule in costs.items() if of_rule}


def read(path: Path) -> Cost:
    """One job's cost; a repeated benchmark is one job and all its repetitions.

    Raises BadInput where there is no such file, DamagedFile where it is something else or holds
    other numbers than a job can take.
    """
    reason = why_not_readable(path)
    if reason == "does not exist":
        raise BadInput(f"{path}: does not exist; run its job first")
    if reason and reason.startswith("cannot be read"):
        raise DamagedFile(f"{path} {reason}; check its permissions.")
    try:
        if reason:
            raise ValueError(reason)
        with path.open(encoding="utf-8", newline="") as file:
            rows = [_cost(row) for row in csv.DictReader(file, delimiter="\t")]
        if not rows:
            raise ValueError("no job")
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"{path} is no benchmark file of Snakemake ({error!r}); delete it."
        ) from error
    return total(rows)._replace(jobs=1)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of all but the memory, of which the maximum."""
    costs = list(costs)
    return Cost(
        sum(cost.jobs for cost in costs),
        sum(cost.core_seconds for cost in costs),
        sum(cost.wall_seconds for cost in costs),
        max((cost.max_rss for cost in costs), default=0.0),
    )


def lines(costs: dict[str, Cost]) -> list[str]:
    """A text table: a line per rule, the most expensive first, and the total."""
    rows = sorted(costs.items(), key=lambda item: -item[1].core_seconds)
    rows.append(("total", total(costs.values())))
    width = max(len(rule) for rule in costs)
    head = f"{'rule':{width}}  {'jobs':>5}  {'core-seconds':>12}  {'wall seconds':>12}  max RSS MB"
    return [
        head,
        *(
            f"{rule:{width}}  {cost.jobs:5d}  {cost.core_seconds:12.1f}  {cost.wall_seconds:12.1f}"
            f"  {cost.max_rss:10.0f}"
            for rule, cost in rows
        ),
    ]


def _cost(row: dict[str, str]) -> Cost:
    wall = _number(row["s"])
    if wall == 0:
        raise ValueError("a job of 0 seconds")
    if row["cpu_time"] in MISSING:  # ended before the first sample
        return Cost(1, wall, wall, 0.0)
    core = _number(row["cpu_time"]) * wall / _last_sample(wall)
    return Cost(1, core, wall, _number(row["max_rss"]))


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(text)
    return number


def _last_sample(wall: float) -> float:
    """When Snakemake looked last at the CPU time of a job of that length.

    It looks every half second 30 times, then every 30 seconds, and not at the end: without this
    a job of 44 seconds would count for 15.
    """
    if wall < 15:
        return max(math.floor(2 * wall) / 2, min(wall, 0.5))
    return 15 + 30 * math.floor((wall - 15) / 30)
