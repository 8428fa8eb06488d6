"""Measure on this machine what `python -m tools.plan` needs, and write it to benchmarks/units/.

    python -m tools.plan.unit_costs [--configfile F [F ...]] [--config k=v ...] [targets ...]

It needs no data. Only what the jobs of the targets do is measured, on the GPU if there is one.
"""

import contextlib
import sys

from advdenoise.ops import system
from advdenoise.ops.terminal import program
from tools.plan import units
from tools.plan.request import Request, parser
from tools.plan.work import NotMeasured


@program
def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__).parse_args(arguments)
    units.read()  # refuses a damaged file before anything is measured
    system.check_writable([units.path_of(units.CPU)])
    # How many superpixels there are changes how often something is used, not what.
    asked = options.targets, options.configfile, options.config
    request = Request(*asked, facts=lambda thing, name: 1)
    uses = set()
    for job in request.jobs(everything=True):
        with contextlib.suppress(NotMeasured):  # of a rule whose work is not counted
            uses.update(request.counting.of(job).uses)
    from tools.plan import measure

    path = measure.run(uses, request.flow.config["batch"], units.FOLDER)
    print(f"Written to {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
