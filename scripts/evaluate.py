"""Predictions for a suite behind one purifier. Run by the rule of the same name; `python -m scripts.evaluate --help` by hand."""

from scripts.advdenoise.stages.command import main
from scripts.advdenoise.stages.evaluate import run

if __name__ == "__main__":
    main(run)
