"""Interquartile ranges of leave-one-out attributions.

Run by the rule of the same name; by hand see `python -m scripts.iqr --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.iqr import run

if __name__ == "__main__":
    main(run)
