"""The cost of jobs: as measured in earlier runs of the same jobs, else counts times unit costs.

Counts are corrected by the median ratio of measured to counted costs of similar jobs. Every figure
has a factor: the cost is expected between figure / factor and figure * factor.
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

# Factors without earlier runs: of passes through networks, whose measured ratios were 0.6 to 1.6,
# and of anything else; then the least factor from similar jobs, and that of a job that ran before.
PASSES, ELSE = 2.0, 8.0
LEAST, AGAIN = 1.4, 1.2
# A job with other functions than those that ran, or with so many times the work, is less similar.
FAR = 10
# Compression of a stage's bytes and its factor, without earlier runs. Perturbations shrink to 0.07
# (sign attacks) to 0.7; the columns of detectors' scores are repetitive.
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
    """The expected cost of one job: seconds on the planned device, bytes on the disk.

    `source` is "measured" (the same job ran before), "fitted" (counted, and compared with earlier
    jobs like it) or "counted".
    """

    job: PlannedJob
    seconds: Figure
    size: Figure
    source: str


class Past(NamedTuple):
    """The measured cost of a job: seconds on the planned device, and its files' bytes."""

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
        """The estimates of jobs; separately, by the missing cost, the jobs without an estimate."""
        estimates, unknown = [], {}
        for job in jobs:
            past = self._past(counting, job)
            try:
                ran = past.seconds is not None
                estimates.append(_again(job, past) if ran else self._new(counting, job, past))
            except NotMeasured as missing:
                unknown.setdefault(str(missing), []).append(job)
        return estimates, unknown

    def ratios(self) -> dict[str, list[tuple[float, float]]]:
        """Seconds taken and counted of the jobs that ran, by stage."""
        by_stage: dict[str, list[tuple[float, float]]] = {}
        for one in self._known:
            if one.past.seconds is not None:
                by_stage.setdefault(one.job.stage, []).append((one.past.seconds, one.seconds))
        return by_stage

    def _count(self, counting: Counting, job: PlannedJob, past: Past) -> _Counted:
        work = counting.of(job)
        costs = [(self._units.cost(use), use.rows, n) for use, n in work.uses.items()]
        parts = [Figure(n * cost.of(rows), cost.factor) for cost, rows, n in costs]
        seconds = total(("unit costs", part) for part in parts)
        return _Counted(job, work, *seconds, past)

    def _past(self, counting: Counting, job: PlannedJob) -> Past:
        """The cost of the job with its present settings; None where that is not known."""
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
                provenance = read_provenance(files[0])
            except BadInput:
                return Past()
            if not _has_settings(provenance["settings"], counting.settings(job)):
                return Past()
            device = provenance["device"]
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
        seconds = _corrected(one.seconds, took, Figure(1.0, unchecked))
        if took and (not like or one.seconds > FAR * max(counted for _, counted in took)):
            seconds = seconds._replace(factor=_both(seconds.factor, math.sqrt(unchecked)))
        wrote = [(o.past.size, o.work.size) for o in like or ran if o.past.size and o.work.size]
        size = _corrected(one.work.size, wrote, Figure(*COMPRESSED.get(job.stage, _OTHER)))
        return Estimate(job, seconds, size, "fitted" if took else "counted")


def _again(job: PlannedJob, past: Past) -> Estimate:
    return Estimate(job, Figure(past.seconds, AGAIN), Figure(past.size, AGAIN), "measured")


def _corrected(counted: float, pairs: Sequence[tuple[float, float]], usual: Figure) -> Figure:
    """A count corrected by pairs of measured and counted costs, or by `usual` without any."""
    ratio = fit(pairs, usual.factor) if pairs else usual
    return Figure(counted * ratio.value, ratio.factor)


def fit(pairs: Sequence[tuple[float, float]], unchecked: float) -> Figure:
    """The median ratio of (measured, counted) pairs and its factor.

    The median is weighted by the counts: small jobs consist of their start. With fewer pairs the
    factor approaches `unchecked`, that without any.
    """
    logs = [math.log(measured / counted) for measured, counted in pairs]
    weights = [counted for _, counted in pairs]
    middle = _weighted_median(logs, weights)
    deviation = 1.4826 * _weighted_median([abs(log - middle) for log in logs], weights)
    few = unchecked ** (1 / math.sqrt(1 + len(pairs)))
    return Figure(math.exp(middle), max(_both(math.exp(deviation), few), LEAST))


def _both(*factors: float) -> float:
    """The combined factor of independent deviations."""
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
    """Seconds of a job: wall time on a GPU, CPU time on a CPU, which other jobs do not change.

    The CPU time of a job of less than a second was sampled once at most.
    """
    if device != CPU:
        return cost.wall_seconds
    return max(cost.core_seconds, min(cost.wall_seconds, 1.0))


def _has_settings(stored: dict, settings: dict) -> bool:
    """Whether a file has these settings.

    Its job may have added others, such as a network's number of parameters to its entry, and have
    chosen one of a setting's candidates.
    """
    wanted = json.loads(json.dumps(settings))
    return all(_equal(stored.get(name), value) for name, value in wanted.items())


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
