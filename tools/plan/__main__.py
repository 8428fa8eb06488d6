"""Print what a run will take before it starts: hours, disk, the longest job and the longest chain.

    python -m tools.plan [--configfile F [F ...]] [--config k=v ...] [targets ...]

Jobs that ran before count as measured, others as counts times the unit costs that
`python -m tools.plan.unit_costs` measures, brought to what like jobs took. A figure `3.2 x1.5` is
expected between 3.2 / 1.5 and 3.2 * 1.5.
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
    found = parser(__doc__)
    found.add_argument("--device", help="cpu or a GPU that was measured; by default the GPU")
    found.add_argument("--everything", action="store_true", help="also jobs that have run")
    found.add_argument(
        "--learn-from",
        nargs="+",
        default=[],
        metavar="F",
        help="configuration of other jobs that ran here, to compare with what was counted",
    )
    found.add_argument(
        "--check", action="store_true", help="what jobs took over what was counted, by rule"
    )
    return found


def _plan(options) -> list[str]:
    known = units.Units(units.read(), options.device)
    request = Request(options.targets, options.configfile, options.config, known.fact)
    # Jobs that ran teach also where just a few others are asked for.
    whole = Request([], options.configfile, options.config, known.fact)
    requests = [request, whole] if options.targets else [request]
    if options.learn_from:
        requests.append(Request([], options.learn_from, options.config, known.fact))
    estimator = Estimator(known, [(one.counting, one.jobs(everything=True)) for one in requests])
    if options.check:
        return report.ratios(estimator.ratios())
    jobs = request.jobs(everything=options.everything)
    if not jobs:
        return ["Nothing is to be run: all that is asked for is there."]
    estimates, unknown = estimator.of(request.counting, jobs)
    asked = " ".join(["--configfile", *options.configfile] if options.configfile else [])
    found = [*request.extents.assumptions, *report.missing(unknown, asked)]
    if estimates:
        found += [
            *report.heading(request.flow.config["scale"], estimates, known, asked),
            "",
            *report.lines(estimates, known.device),
        ]
    return found


if __name__ == "__main__":
    sys.exit(main())
