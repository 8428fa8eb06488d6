"""Predictions for a suite behind one purifier.

Run by the rule of the same name; by hand see `python scripts/evaluate.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.evaluate import run

if __name__ == "__main__":
    main(run)
