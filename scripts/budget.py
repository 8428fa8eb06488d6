"""Print what the jobs cost: by rule and in total, from Snakemake's benchmark files.

    python -m scripts.budget [--scale quick]

Snakemake itself is not in it. Without --scale, every scale that has run here.
"""

import argparse
import sys
from pathlib import Path

from scripts.advdenoise import budget
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.planning.units import FOLDER


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What the jobs cost, by rule and in total.")
    parser.add_argument("--scale", help="the name under benchmarks/; all of them by default")
    parser.add_argument("--benchmarks", type=Path, default=Path("benchmarks"))
    options = parser.parse_args(arguments)
    folder = options.benchmarks
    scales = [folder / options.scale] if options.scale else sorted(folder.glob("*/"))
    scales = [scale for scale in scales if scale.name != FOLDER.name]  # unit costs, not jobs
    try:
        for scale in scales or [folder]:
            print(f"{scale}:", *budget.lines(budget.collect(scale)), sep="\n")
    except BadInput as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
