"""Layer-wise distances for a suite.

Run by the rule of the same name; by hand see `python scripts/distances.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.distances import run

if __name__ == "__main__":
    main(run)
