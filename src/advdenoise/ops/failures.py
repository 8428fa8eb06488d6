"""Which jobs of a run failed, why, and where their logs are: a summary of Snakemake's own log.

Snakemake reports a failure when it happens, which on a cluster is hours above the end of its
output, once for each attempt, and without the job's own message.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from advdenoise.ops.system import memory_remedy

_EVENT = re.compile(
    r"^Error in rule (?P<rule>\w+):\n(?P<fields>(?:    .*\n?)+)|^Finished jobid: (?P<done>\d+) ",
    re.MULTILINE,
)
_PREEMPTED = re.compile(r"SLURM-job '(\d+)' was preempted")
_STATUS = re.compile(r"SLURM status is: '(\w+)'")
_OUT_OF_MEMORY = re.compile(
    r"exceeded memory limit|oom.kill|throwing an instance of 'std::bad_alloc'", re.IGNORECASE
)
# Above the failure of a local job, and in the cluster's log under SLURM. 137 is a shell's status.
_ENDED = re.compile(r"^Command '(.*)' (?:died with|returned non-zero exit status) (.*)\.$", re.M)
_KILLED = ("<Signals.SIGKILL: 9>", "137")
_MAX_CHARACTERS = 300  # of a job's last line

# What SLURM's states mean to the user; of a FAILED job its own last line says more.
_REASONS = {
    "TIMEOUT": "reached its time limit; trainings and attacks resume where they stopped, for other "
    "rules raise it with --set-resources {rule}:runtime=MINUTES",
    "DEADLINE": "passed its deadline",
    "OUT_OF_MEMORY": "needed more memory than it requested; " + memory_remedy("{rule}"),
    "KILLED": "was killed, probably because memory ran out; " + memory_remedy("{rule}"),
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node",
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted by another job",
}


class Failure(NamedTuple):
    """A job that failed and did not succeed later; `logs` are its own log and the cluster's.

    `status` is SLURM's state or a signal's name, `external` SLURM's job number.
    """

    rule: str
    output: str
    logs: list[Path]
    status: str | None
    external: str | None


def failed_jobs(text: str) -> list[Failure]:
    """The jobs that failed in the end according to a run's log, each with its last attempt."""
    ended = list(_ENDED.finditer(text))
    preempted = set(_PREEMPTED.findall(text))
    failures: dict[str, Failure] = {}
    for event in _EVENT.finditer(text):
        if event["done"]:
            failures.pop(event["done"], None)
            continue
        fields = dict(re.findall(r"^    (\w+): (.*)$", event["fields"], re.M))
        external = fields.get("external_jobid")
        logs = fields.get("log", "").removesuffix(" (check log file(s) for error details)")
        logs = [Path(path) for path in logs.split(", ") if path]
        if external is None:
            status = _signal(ended, event.start(), logs)
        elif external in preempted:
            status = "PREEMPTED"
        else:
            match = _STATUS.search(fields.get("message", ""))
            status = match and match[1]
        output = fields.get("output", "").partition(", ")[0]
        failure = Failure(event["rule"], output, logs, status, external)
        failures[fields.get("jobid", str(event.start()))] = failure
    return list(failures.values())


def _signal(ended: list[re.Match], end: int, logs: list[Path]) -> str | None:
    """The signal that ended the last command with this log before position `end`, or KILLED."""
    own = [m[2] for m in ended if m.start() < end and logs and str(logs[0]) in m[1]]
    if own and own[-1] in _KILLED:
        return "KILLED"
    signal = re.match(r"<Signals\.(\w+)", own[-1]) if own else None
    return signal and signal[1]


def summary(logs: Iterable[str]) -> list[str]:
    """The lines that end the output of a failed run: a few for each job, or none."""
    texts = [Path(log).read_text(encoding="utf-8", errors="replace") for log in logs]
    failures = failed_jobs("\n".join(texts))
    if not failures:
        return []
    lines = ["", "Not done; all other results are kept, and the same command continues from here:"]
    for failure in failures:
        lines += [f"  {failure.output or failure.rule}", f"    {_reason(failure)}"]
        lines += [f"    log: {_relative(path)}" for path in failure.logs]
    return lines


def _reason(failure: Failure) -> str:
    last_line = _last_line(failure.logs[0]) if failure.logs else ""
    status = failure.status
    tails = "\n".join(_tail(path) for path in failure.logs)
    if _OUT_OF_MEMORY.search(tails):
        status = "OUT_OF_MEMORY"
    elif status == "FAILED" and any(match[2] in _KILLED for match in _ENDED.finditer(tails)):
        status = "KILLED"
    reason = _REASONS.get(status or "", "").format(rule=failure.rule)
    job = f"SLURM job {failure.external} " if failure.external else "the job "
    if not reason:
        return last_line or f"{job}failed" + (f" ({status})" if status else "")
    ends = f"; its log ends: {last_line}" if last_line else ""
    return f"{job}{reason} ({status}){ends}"


def _last_line(path: Path) -> str:
    """The last line of a job's log: its error message or exception."""
    lines = [line.strip() for line in _tail(path).splitlines() if line.strip()]
    return lines[-1][:_MAX_CHARACTERS] if lines else ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
