"""Detectors' scores on the features of a suite.

Run by the rule of the same name; by hand see `python -m scripts.detect --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.detect import run

if __name__ == "__main__":
    main(run)
