"""Print the cost of jobs, by rule and in total, from Snakemake's benchmark files.

    python -m tools.plan.costs [--scale quick]
    python -m tools.plan.costs [--configfile F [F ...] --] targets ...

Snakemake itself does not count. Targets, such as an experiment, count with all jobs that they need;
without targets, all jobs of every scale that has run here, or of one.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from advdenoise.ops.terminal import program
from tools.plan import budget, listing
from tools.plan.units import FOLDER


@program
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The cost of jobs, by rule and in total.")
    parser.add_argument("targets", nargs="*", help="what `snakemake` is asked for")
    parser.add_argument("--configfile", nargs="+", default=[], help="as Snakemake's, for targets")
    parser.add_argument("--scale", help="the name under benchmarks/; all of them by default")
    parser.add_argument("--benchmarks", type=Path, default=Path("benchmarks"))
    options = parser.parse_args(arguments)
    if options.targets and options.scale:
        parser.error("--scale is without targets: a target is of the configuration's own scale")
    if options.configfile and not options.targets:
        parser.error("--configfile is of targets: name some behind `--`")
    costs = _of_targets(options) if options.targets else _of_scales(options)
    for name, by_rule in costs:
        print(f"{name}:", *budget.lines(by_rule), sep="\n")
    return 0


def _of_scales(options) -> Iterator[tuple[str, dict]]:
    folder = options.benchmarks
    scales = [folder / options.scale] if options.scale else sorted(folder.glob("*/"))
    scales = [scale for scale in scales if scale.name != FOLDER.name]  # unit costs, not jobs
    for scale in scales or [folder]:
        yield str(scale), budget.collect(scale)


def _of_targets(options) -> Iterator[tuple[str, dict]]:
    for target in options.targets:
        jobs = listing.dry_run([target], options.configfile, [], everything=True)
        files = [(job.stage, Path(job.benchmark)) for job in jobs if job.benchmark]
        yield target, budget.by_rule(files)


if __name__ == "__main__":
    sys.exit(main())
