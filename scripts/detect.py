"""Detectors' scores on the features of a suite.

Run by the rule of the same name; by hand see `python scripts/detect.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.detect import run

if __name__ == "__main__":
    main(run)
