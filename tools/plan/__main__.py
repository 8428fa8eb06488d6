"""Estimate a run before it starts: hours, disk, the longest job and the longest chain.

    python -m tools.plan [--configfile F [F ...]] [--config k=v ...] [targets ...]

Jobs that ran before count as measured, others as counts times the unit costs that
`python -m tools.plan.unit_costs` measures, corrected by similar jobs that ran. A figure `3.2 x1.5`
is expected between 3.2 / 1.5 and 3.2 * 1.5.
"""

import sys

from advdenoise.ops.terminal import program
from tools.plan import report, units
from tools.plan.estimate import Estimator
from tools.plan.request import Request, parser


@program
def main(arguments: list[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    print(*_plan(options), sep="\n")
    return 0


def _options():
    options = parser(__doc__)
    options.add_argument("--device", help="cpu or a GPU that was measured; by default the GPU")
    options.add_argument("--everything", action="store_true", help="also jobs that have run")
    options.add_argument(
        "--learn-from",
        nargs="+",
        default=[],
        metavar="F",
        help="configuration of other jobs that ran here, to correct counts by",
    )
    options.add_argument(
        "--check", action="store_true", help="the ratio of measured to counted seconds, by rule"
    )
    return options


def _plan(options) -> list[str]:
    costs = units.Units(units.read(), options.device)
    request = Request(options.targets, options.configfile, options.config, costs.fact)
    # All jobs that ran are compared with their counts, whatever the targets.
    whole = Request([], options.configfile, options.config, costs.fact)
    requests = [request, whole] if options.targets else [request]
    if options.learn_from:
        requests.append(Request([], options.learn_from, options.config, costs.fact))
    estimator = Estimator(costs, [(one.counting, one.jobs(everything=True)) for one in requests])
    if options.check:
        return report.ratios(estimator.ratios())
    jobs = request.jobs(everything=options.everything)
    if not jobs:
        return ["Nothing is to be run: all that is asked for is there."]
    estimates, unknown = estimator.of(request.counting, jobs)
    options_text = " ".join(["--configfile", *options.configfile] if options.configfile else [])
    lines = [*request.extents.assumptions, *report.missing(unknown, options_text)]
    if estimates:
        lines += [
            *report.heading(request.flow.config["scale"], estimates, costs, options_text),
            "",
            *report.lines(estimates, costs.device),
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
