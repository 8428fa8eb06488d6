"""Which jobs of a run failed, why, and where their logs are: a summary of Snakemake's own log.

Snakemake tells of a failure when it happens, which on a cluster is hours above the end of its
output, once for each attempt, and without the job's own words.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from advdenoise.ops.system import memory_remedy

_BLOCK = re.compile(r"^Error in rule (\w+):\n((?:    .*\n?)+)", re.MULTILINE)
_DONE = re.compile(r"^Finished jobid: (\d+) ", re.MULTILINE)
_PREEMPTED = re.compile(r"SLURM-job '(\d+)' was preempted")
_STATUS = re.compile(r"SLURM status is: '(\w+)'")
_SHORT_OF_MEMORY = re.compile(
    r"exceeded memory limit|oom.kill|throwing an instance of 'std::bad_alloc'", re.IGNORECASE
)
# Above the failure of a local job, and in the cluster's log of one under SLURM. 137: of a shell.
_ENDED = re.compile(r"^Command '(.*)' (?:died with|returned non-zero exit status) (.*)\.$", re.M)
_KILLED = ("<Signals.SIGKILL: 9>", "137")
_WORDS = 300  # characters of a job's last words that are told

# What SLURM's states mean to the user; FAILED says nothing that the job does not say better.
_REASONS = {
    "TIMEOUT": "hit its time limit; trainings and attacks go on where they were, for other rules "
    "raise it with --set-resources {rule}:runtime=MINUTES",
    "DEADLINE": "passed its deadline",
    "OUT_OF_MEMORY": "needed more memory than it asked for; " + memory_remedy("{rule}"),
    "KILLED": "was killed, probably for lack of memory; " + memory_remedy("{rule}"),
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node",
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted by another job",
}


class Failure(NamedTuple):
    """A job that failed and was not done later: `logs` are its own log and the cluster's."""

    rule: str
    output: str
    logs: list[Path]
    status: str | None
    external: str | None


def failed(text: str) -> list[Failure]:
    """The jobs that the log of one run leaves failed, each with its last attempt."""
    events = [(match.start(), match) for match in _BLOCK.finditer(text)]
    events += [(match.start(), match) for match in _DONE.finditer(text)]
    ended = list(_ENDED.finditer(text))
    preempted = set(_PREEMPTED.findall(text))
    left: dict[str, Failure] = {}
    for _, match in sorted(events, key=lambda event: event[0]):
        if match.re is _DONE:
            left.pop(match[1], None)
            continue
        fields = dict(re.findall(r"^    (\w+): (.*)$", match[2], re.MULTILINE))
        status = _STATUS.search(fields.get("message", ""))
        external = fields.get("external_jobid")
        logs = fields.get("log", "").removesuffix(" (check log file(s) for error details)")
        logs = [Path(path) for path in logs.split(", ") if path]
        if external is None:
            status = _end_of(ended, match.start(), logs)
        elif external in preempted:
            status = "PREEMPTED"
        else:
            status = status and status[1]
        left[fields.get("jobid", str(match.start()))] = Failure(
            rule=match[1],
            output=fields.get("output", "").partition(", ")[0],
            logs=logs,
            status=status,
            external=external,
        )
    return list(left.values())


def _end_of(ended: list[re.Match], place: int, logs: list[Path]) -> str | None:
    """What ended the last command with this log above a place: KILLED, or another signal's name."""
    own = [
        match[2] for match in ended if match.start() < place and logs and str(logs[0]) in match[1]
    ]
    if own and own[-1] in _KILLED:
        return "KILLED"
    signal = re.match(r"<Signals\.(\w+)", own[-1]) if own else None
    return signal and signal[1]


def summary(logs: Iterable[str]) -> list[str]:
    """Lines to end a failed run with, from its logs: a few for each job, or none."""
    texts = [Path(log).read_text(encoding="utf-8", errors="replace") for log in logs]
    failures = failed("\n".join(texts))
    if not failures:
        return []
    lines = ["", "Not done; all else is kept, and the same command goes on from here:"]
    for failure in failures:
        lines += [f"  {failure.output or failure.rule}", f"    {_why(failure)}"]
        lines += [f"    log: {_short(path)}" for path in failure.logs]
    return lines


def _why(failure: Failure) -> str:
    said = _last_words(failure.logs[0]) if failure.logs else ""
    status = failure.status
    tails = [_tail(path) for path in failure.logs]
    if any(_SHORT_OF_MEMORY.search(tail) for tail in tails):
        status = "OUT_OF_MEMORY"
    elif status == "FAILED" and any(
        match[2] in _KILLED for tail in tails for match in _ENDED.finditer(tail)
    ):
        status = "KILLED"
    reason = _REASONS.get(status or "", "").format(rule=failure.rule)
    job = f"SLURM job {failure.external} " if failure.external else "the job "
    if not reason:
        return said or f"{job}failed" + (f" ({status})" if status else "")
    ends = f"; its log ends: {said}" if said else ""
    return f"{job}{reason} ({status}){ends}"


def _last_words(path: Path) -> str:
    """The last line that the job wrote: its one sentence, or the exception."""
    lines = [line.strip() for line in _tail(path).splitlines() if line.strip()]
    return lines[-1][:_WORDS] if lines else ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
