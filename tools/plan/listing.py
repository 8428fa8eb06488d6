"""The jobs of a run, from the listing of Snakemake's dry run."""

import re
import subprocess
import sys
from collections import Counter
from typing import NamedTuple

from advdenoise.errors import BadInput
from advdenoise.ops import system

_BLOCK = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?:    .*\n?)*)", re.M)
_ITEM = re.compile(r"^    (\w+): (.*)$", re.M)
_COUNT = re.compile(r"^(\w+) +(\d+)$", re.M)
_NOTHING = "Nothing to be done"


class PlannedJob(NamedTuple):
    """One job of a dry run: paths as Snakemake prints them, `runtime` in minutes."""

    rule: str
    wildcards: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    benchmark: str | None
    gpus: int
    runtime: int | None

    @property
    def name(self) -> str:
        """Its first output."""
        return self.outputs[0]

    @property
    def stage(self) -> str:
        """Its rule; `figures` for the rules `figures_NAME` of the experiments."""
        return "figures" if self.rule.startswith("figures_") else self.rule


def dry_run(
    targets: list[str], configfiles: list[str], overrides: list[str], everything: bool = False
) -> list[PlannedJob]:
    """The jobs that Snakemake would run in this folder, or all, also those that have run.

    Rules that only collect others' files are left out. Raises `BadInput` with Snakemake's message
    where it refuses, RuntimeError where its listing is not understood.
    """
    system.check_cache()
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nocolor", *targets]
    command += ["--forceall"] if everything else []
    command += ["--configfile", *configfiles] if configfiles else []
    command += ["--config", *overrides] if overrides else []
    shown = subprocess.run(command, capture_output=True, text=True)
    if shown.returncode:
        said = shown.stdout.rpartition("Building DAG of jobs...")[2] + shown.stderr
        raise BadInput(f"Snakemake refuses the dry run: {said.strip()}")
    return parse(shown.stdout)


def parse(text: str) -> list[PlannedJob]:
    """The jobs of a dry run's listing, checked against the counts that it begins with."""
    if _NOTHING in text:
        return []
    head, _, _ = text.partition("\n\n\n")
    counts = Counter({rule: int(number) for rule, number in _COUNT.findall(head)})
    total = counts.pop("total", None)
    jobs = [_job(rule, dict(_ITEM.findall(block))) for rule, block in _BLOCK.findall(text)]
    if total is None or Counter(job.rule for job in jobs) != counts or total != len(jobs):
        raise RuntimeError(
            f"the listing of Snakemake's dry run was not understood: it counts {total} jobs "
            f"({dict(counts)}), and {len(jobs)} were read"
        )
    return [job for job in jobs if job.outputs]


def _job(rule: str, items: dict[str, str]) -> PlannedJob:
    resources = _pairs(items.get("resources", ""))
    return PlannedJob(
        rule,
        _pairs(items.get("wildcards", "")),
        _names(items.get("input", "")),
        _names(items.get("output", "")),
        items.get("benchmark"),
        _number(resources.get("gpu")) or 0,
        _number(resources.get("runtime")),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in _names(text) if "=" in pair)


def _number(text: str | None) -> int | None:
    """None also for what Snakemake cannot tell before the job runs (`<TBD>`)."""
    return int(text) if text and text.isdigit() else None
