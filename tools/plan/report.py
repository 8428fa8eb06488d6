"""A plan as text: cost by stage, the longest chain, and jobs that are too short or too long."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tools.plan.estimate import Estimate, Figure, longest_chain, total
from tools.plan.listing import PlannedJob
from tools.plan.units import CPU, Units

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MEASURE = "python -m tools.plan.unit_costs"
_SHOWN = 10  # jobs named one by one


def heading(scale: str, estimates: Sequence[Estimate], units: Units, arguments: str) -> list[str]:
    """What is planned, and for which device."""
    count = f"{len(estimates)} jobs of the scale {scale}"
    if not any(one.job.gpus for one in estimates):
        return [f"{count}, none on a GPU."]
    if units.device != CPU:
        return [f"{count}, GPU jobs on one {units.device} each."]
    if set(units.devices) - {CPU}:
        return [f"{count}, all on a CPU, a core each."]
    return [
        f"{count}. No GPU has been measured, so all hours are of one CPU core a job. To plan for "
        f"a GPU, run `{' '.join(filter(None, [MEASURE, arguments]))}` on a machine that has one."
    ]


def missing(unknown: dict[str, list[PlannedJob]], arguments: str) -> list[str]:
    """Unknown costs, the number of jobs that the plan leaves out, and the remedy."""
    if not unknown:
        return []
    left_out = sum(map(len, unknown.values()))
    return [
        f"{left_out} jobs are left out, of which these costs are not known; "
        f"`{' '.join(filter(None, [MEASURE, arguments]))}` measures them:",
        *(f"  {name} ({len(jobs)} jobs)" for name, jobs in sorted(unknown.items())),
    ]


def ratios(ratio_pairs: dict[str, list[tuple[float, float]]]) -> list[str]:
    """The ratio of measured to counted seconds of the jobs that ran, by stage."""
    rows = [["stage", "jobs", "seconds", "counted", "ratio", "each"]]
    for stage, pairs in sorted(ratio_pairs.items()):
        taken, counted = (sum(column) for column in zip(*pairs, strict=True))
        each = sorted(measured / expected for measured, expected in pairs)
        span = f"{each[0]:.2f} to {each[-1]:.2f}"
        ratio = f"{taken / counted:.2f}"
        rows.append([stage, str(len(pairs)), f"{taken:.1f}", f"{counted:.1f}", ratio, span])
    return _aligned(rows)


def lines(estimates: Sequence[Estimate], device: str) -> list[str]:
    """The stages, most expensive first, their total, the longest chain and unusual jobs."""
    stages: dict[str, list[Estimate]] = {}
    for one in estimates:
        stages.setdefault(one.job.stage, []).append(one)
    ordered = sorted(stages.items(), key=lambda item: -_time(item[1]).value)
    rows = [_row(stage, ones, device) for stage, ones in ordered]
    rows.append(_row("total", estimates, device))
    head = ["stage", "jobs", "GPU-hours", "CPU-hours", "disk GB", "longest job", "known from"]
    return [
        *_aligned([head, *rows]),
        "",
        *_chain(estimates),
        *_short(estimates, device),
        *_long(estimates),
        *_beyond(estimates),
    ]


def _row(name: str, ones: Sequence[Estimate], device: str) -> list[str]:
    on_gpu = [one for one in ones if one.job.gpus]
    gpu = "-" if not on_gpu else "not known" if device == CPU else _hours(_time(on_gpu))
    size = total((one.job.stage, one.size) for one in ones)
    longest = max(ones, key=lambda one: one.seconds.value, default=None)
    known = Counter(one.source for one in ones)
    return [
        name,
        str(len(ones)),
        gpu,
        _hours(_time(ones)),
        _figure(Figure(size.value / 1e9, size.factor)),
        _span(longest.seconds) if longest else "-",
        ", ".join(f"{number} {source}" for source, number in sorted(known.items())),
    ]


def _time(ones: Iterable[Estimate]) -> Figure:
    return total((one.job.stage, one.seconds) for one in ones)


def _chain(estimates: Sequence[Estimate]) -> list[str]:
    chain = longest_chain(estimates)
    steps = [f"  {one.job.stage} {_span(one.seconds)}  {one.job.name}" for one in chain]
    return [f"Longest chain: {_span(_time(chain))}, {len(chain)} jobs one after the other:", *steps]


def _short(estimates: Sequence[Estimate], device: str) -> list[str]:
    on_gpu = [one for one in estimates if one.job.gpus]
    if device == CPU or not on_gpu:
        return []
    short = Counter(one.job.stage for one in on_gpu if one.seconds.value < MINUTE)
    each = ", ".join(f"{stage} {number}" for stage, number in short.most_common())
    of = f"{short.total()} of {len(on_gpu)}"
    return [f"Jobs on a GPU expected to take under a minute: {of}{f' ({each})' if each else ''}"]


def _long(estimates: Sequence[Estimate]) -> list[str]:
    long = [one for one in estimates if one.seconds.value > DAY]
    return _named("Jobs expected to take over a day", long, lambda one: _span(one.seconds))


def _beyond(estimates: Sequence[Estimate]) -> list[str]:
    limited = [one for one in estimates if one.job.runtime]
    exceeding = [one for one in limited if one.seconds.value > one.job.runtime * MINUTE]
    lines = _named(
        "Jobs expected to exceed their `runtime`",
        exceeding,
        lambda one: f"{_span(one.seconds)} of {_duration(one.job.runtime * MINUTE)}",
    )
    worst = [
        one for one in limited if _upper(one) > one.job.runtime * MINUTE and one not in exceeding
    ]
    each = ", ".join(f"{stage} {n}" for stage, n in Counter(o.job.stage for o in worst).items())
    return lines + ([f"Jobs that may exceed it within their factor: {each}"] if worst else [])


def _upper(one: Estimate) -> float:
    return one.seconds.value * one.seconds.factor


def _named(what: str, estimates: Sequence[Estimate], detail) -> list[str]:
    if not estimates:
        return [f"{what}: none"]
    ordered = sorted(estimates, key=lambda one: -one.seconds.value)
    lines = [f"  {one.job.stage} {detail(one)}  {one.job.name}" for one in ordered[:_SHOWN]]
    more = [f"  and {len(estimates) - _SHOWN} more"] if len(estimates) > _SHOWN else []
    return [f"{what}: {len(estimates)}", *lines, *more]


def _hours(figure: Figure) -> str:
    return _figure(Figure(figure.value / HOUR, figure.factor))


def _figure(figure: Figure) -> str:
    """`3.2 x1.5`: between 3.2 / 1.5 and 3.2 * 1.5."""
    return f"{_digits(figure.value)} x{figure.factor:.2g}" if figure.value else "0"


def _span(figure: Figure) -> str:
    return f"{_duration(figure.value)} x{figure.factor:.2g}"


def _duration(seconds: float) -> str:
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit or (unit == HOUR and seconds >= unit):
            return f"{_digits(seconds / unit)} {name}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    """Two digits, as the estimates are no more precise."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, len(widths) - 1)
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
