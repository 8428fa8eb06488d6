"""The figures of one experiment.

Run by the rule of the same name; by hand see `python -m scripts.figures --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.figures import run

if __name__ == "__main__":
    main(run)
