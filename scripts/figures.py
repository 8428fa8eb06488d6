"""The figures of one experiment.

Run by the rule of the same name; by hand see `python scripts/figures.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.figures import run

if __name__ == "__main__":
    main(run)
