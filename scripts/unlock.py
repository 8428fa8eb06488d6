"""Take away the lock that a killed Snakemake run left in this folder, and end its jobs.

    python -m scripts.unlock

A live run is never unlocked: one sentence tells of it, and the exit status is 1. So does one of the
next run's cache folder where Snakemake could not write to it, which it would tell in a traceback.
"""

import argparse
import sys

from scripts.advdenoise import running, system
from scripts.advdenoise.terminal import program


@program
def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description="Remove a dead run's lock.").parse_args(arguments)
    for sentence in running.unlock():
        print(sentence)
    system.check_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
