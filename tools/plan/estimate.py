"""What jobs will cost: what earlier runs of the same jobs did, else counts times unit costs.

What is counted is brought to what earlier runs of like jobs took, by the median of their ratios.
Every figure has a factor: it is expected between the figure over it and the figure times it.
"""

import contextlib
import json
import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.graph.resolution import CHOSEN, is_block
from advdenoise.io.provenance import read_provenance
from tools.plan import budget
from tools.plan.listing import PlannedJob
from tools.plan.units import CPU, Units
from tools.plan.work import PASSING, Counting, NotMeasured, Work

log = logging.getLogger(__name__)

# Factors where no earlier run says better: of passes through networks, which were seen to take 0.6
# to 1.6 times what is counted, and of anything else; then the least that earlier runs of like jobs
# can give, and that of a job that ran before.
PASSES, ELSE = 2.0, 8.0
LEAST, AGAIN = 1.4, 1.2
# A job of other functions than those that ran, or of so many times the work, is less like them.
FAR = 10
# To what the bytes of a stage shrink, and its factor, before any are there. Perturbations come to
# between 0.07 (sign attacks) and 0.7; the columns of detectors' scores are the same over and over.
COMPRESSED = {
    "images": (0.7, 1.2),
    "attack": (0.25, 3.0),
    "examples": (0.7, 1.5),
    "export": (0.7, 1.5),
    "evaluate": (0.3, 1.5),
    "distances": (0.2, 2.0),
    "iqr": (0.6, 1.5),
    "detect": (0.1, 3.0),
}
_OTHER = (1.0, 1.5)
_WITH_PROVENANCE = (".h5", ".parquet", ".safetensors", ".json")


class Figure(NamedTuple):
    """A value and the factor of its uncertainty."""

    value: float
    factor: float


class Estimate(NamedTuple):
    """What one job is expected to take: seconds on the device planned for, bytes on the disk.

    `source` is "measured" (the same job ran before), "fitted" (counted, and compared with earlier
    jobs like it) or "counted".
    """

    job: PlannedJob
    seconds: Figure
    size: Figure
    source: str


class Past(NamedTuple):
    """What a job took when it ran: seconds on the device planned for, and its files' bytes."""

    seconds: float | None = None
    size: int | None = None


class _Counted(NamedTuple):
    job: PlannedJob
    work: Work
    seconds: float
    factor: float  # by which the measurements of its unit costs differed
    past: Past


class Estimator:
    """Expectations for jobs, from unit costs and from the jobs that ran.

    `ran` holds jobs of which some may have run before, with what counts their work.
    """

    def __init__(self, units: Units, ran: Iterable[tuple[Counting, list[PlannedJob]]]):
        self._units = units
        self._bad: set[Path] = set()
        known: dict[str, _Counted] = {}
        for counting, jobs in ran:
            for job in jobs:
                with contextlib.suppress(NotMeasured):
                    if job.name not in known:
                        past = self._past(counting, job)
                        known[job.name] = self._count(counting, job, past)
        self._known = list(known.values())

    def of(
        self, counting: Counting, jobs: Iterable[PlannedJob]
    ) -> tuple[list[Estimate], dict[str, list[PlannedJob]]]:
        """What each job is expected to take; apart, by what was not measured, those unknown."""
        estimates, unknown = [], {}
        for job in jobs:
            past = self._past(counting, job)
            try:
                again = past.seconds is not None
                found = _again(job, past) if again else self._new(counting, job, past)
                estimates.append(found)
            except NotMeasured as missing:
                unknown.setdefault(str(missing), []).append(job)
        return estimates, unknown

    def ratios(self) -> dict[str, list[tuple[float, float]]]:
        """Seconds taken and counted of the jobs that ran, by stage."""
        found: dict[str, list[tuple[float, float]]] = {}
        for one in self._known:
            if one.past.seconds is not None:
                found.setdefault(one.job.stage, []).append((one.past.seconds, one.seconds))
        return found

    def _count(self, counting: Counting, job: PlannedJob, past: Past) -> _Counted:
        work = counting.of(job)
        costs = [(self._units.cost(use), use.rows, n) for use, n in work.uses.items()]
        parts = [Figure(n * cost.of(rows), cost.factor) for cost, rows, n in costs]
        seconds = total(("unit costs", part) for part in parts)
        return _Counted(job, work, *seconds, past)

    def _past(self, counting: Counting, job: PlannedJob) -> Past:
        """What the job took with the settings of today; None where that is not known."""
        files = [Path(path) for path in job.outputs]
        if not all(path.exists() for path in files):
            return Past()
        size = sum(path.stat().st_size for path in files)
        benchmark = Path(job.benchmark) if job.benchmark else None
        if benchmark is None or not benchmark.exists():
            return Past(size=size)
        device = CPU
        if files[0].suffix in _WITH_PROVENANCE:
            try:
                made = read_provenance(files[0])
            except BadInput:
                return Past()
            if not _holds(made["settings"], counting.settings(job)):
                return Past()
            device = made["device"]
        if job.gpus and device != self._units.device:
            return Past(size=size)
        try:
            return Past(_seconds(budget.read(benchmark), device), size)
        except DamagedFile as error:
            if benchmark not in self._bad:
                log.warning("Left out: %s", error)
            self._bad.add(benchmark)
            return Past(size=size)

    def _new(self, counting: Counting, job: PlannedJob, past: Past) -> Estimate:
        one = self._count(counting, job, past)
        ran = [o for o in self._known if o.job.stage == job.stage and o.past != Past()]
        like = [o for o in ran if o.work.functions == one.work.functions]
        unchecked = PASSES if any(use.what in PASSING for use in one.work.uses) else ELSE
        unchecked = _both(unchecked, one.factor)
        took = [(o.past.seconds, o.seconds) for o in like or ran if o.past.seconds is not None]
        seconds = _brought(one.seconds, took, Figure(1.0, unchecked))
        if took and (not like or one.seconds > FAR * max(counted for _, counted in took)):
            seconds = seconds._replace(factor=_both(seconds.factor, math.sqrt(unchecked)))
        wrote = [(o.past.size, o.work.size) for o in like or ran if o.past.size and o.work.size]
        size = _brought(one.work.size, wrote, Figure(*COMPRESSED.get(job.stage, _OTHER)))
        return Estimate(job, seconds, size, "fitted" if took else "counted")


def _again(job: PlannedJob, past: Past) -> Estimate:
    return Estimate(job, Figure(past.seconds, AGAIN), Figure(past.size, AGAIN), "measured")


def _brought(counted: float, pairs: Sequence[tuple[float, float]], usual: Figure) -> Figure:
    """What was counted, times what pairs say, or what is usual without any."""
    ratio = fit(pairs, usual.factor) if pairs else usual
    return Figure(counted * ratio.value, ratio.factor)


def fit(pairs: Sequence[tuple[float, float]], unchecked: float) -> Figure:
    """What (measured, counted) pairs say of measured over counted: a median and its factor.

    The median is weighted by what was counted: of small jobs only their start is seen. The fewer
    pairs there are, the nearer is the factor to `unchecked`, which holds without any.
    """
    logs = [math.log(measured / counted) for measured, counted in pairs]
    weights = [counted for _, counted in pairs]
    middle = _weighted_median(logs, weights)
    deviation = 1.4826 * _weighted_median([abs(log - middle) for log in logs], weights)
    few = unchecked ** (1 / math.sqrt(1 + len(pairs)))
    return Figure(math.exp(middle), max(_both(math.exp(deviation), few), LEAST))


def _both(*factors: float) -> float:
    """The factor of what deviates by several, one regardless of the other."""
    return math.exp(math.hypot(*map(math.log, factors)))


def _weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    half = sum(weights) / 2
    for value, weight in sorted(zip(values, weights, strict=True)):
        half -= weight
        if half <= 0:
            return value
    raise ValueError("no values")


def total(figures: Iterable[tuple[str, Figure]]) -> Figure:
    """The sum of figures, each with the name of its group, whose members deviate alike."""
    figures = list(figures)
    value = sum(figure.value for _, figure in figures)
    if not value:
        return Figure(0.0, 1.0)
    groups: dict[str, float] = {}
    for name, figure in figures:
        groups[name] = groups.get(name, 0.0) + figure.value * math.log(figure.factor)
    return Figure(value, math.exp(math.hypot(*groups.values()) / value))


def longest_chain(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The jobs, each of which waits for the one before, that together take longest."""
    maker = {path: one for one in estimates for path in one.job.outputs}
    best: dict[str, tuple[float, list[Estimate]]] = {}

    def until(one: Estimate) -> tuple[float, list[Estimate]]:
        name = one.job.name
        if name not in best:
            before = {maker[path].job.name: maker[path] for path in one.job.inputs if path in maker}
            seconds, chain = max(map(until, before.values()), default=(0.0, []), key=_first)
            best[name] = seconds + one.seconds.value, [*chain, one]
        return best[name]

    return max(map(until, estimates), default=(0.0, []), key=_first)[1]


def _first(pair: tuple) -> float:
    return pair[0]


def _seconds(cost: budget.Cost, device: str) -> float:
    """What a job took: on a GPU by the clock; on a CPU by the processor, which others leave be.

    A job of less than a second has ended before its CPU time was looked at twice.
    """
    if device != CPU:
        return cost.wall_seconds
    return max(cost.core_seconds, min(cost.wall_seconds, 1.0))


def _holds(made: dict, settings: dict) -> bool:
    """Whether a file was made with these settings.

    Its job may have added others, to an entry what it found (a network's number of parameters), and
    taken one of the candidates of a setting that is chosen.
    """
    wanted = json.loads(json.dumps(settings))
    return all(_equal(made.get(name), value) for name, value in wanted.items())


def _equal(stored, wanted) -> bool:
    if is_block(wanted):
        return stored in wanted["choose"]
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(_equal, stored, wanted))
    if not isinstance(stored, dict) or not isinstance(wanted, dict):
        return stored == wanted
    others = stored.keys() - wanted.keys() - {CHOSEN}
    alike = all(_equal(stored.get(name), value) for name, value in wanted.items())
    return alike and ("name" in wanted or not others)
