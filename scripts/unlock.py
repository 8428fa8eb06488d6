"""Take away the lock that a killed Snakemake run left in this folder, and end its jobs.

    python -m scripts.unlock

A live run is never unlocked: one sentence tells of it, and the exit status is 1.
"""

import argparse
import sys

from scripts.advdenoise import running
from scripts.advdenoise.errors import BadInput


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description="Remove a dead run's lock.").parse_args(arguments)
    try:
        told = running.unlock()
    except BadInput as reason:
        print(reason, file=sys.stderr)
        return 1
    for sentence in told:
        print(sentence)
    return 0


if __name__ == "__main__":
    sys.exit(main())
