"""Predictions for a suite behind one purifier.

Run by the rule of the same name; by hand see `python -m scripts.evaluate --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.evaluate import run

if __name__ == "__main__":
    main(run)
