"""What a classifier behind a purifier does on a few images.

Run by the rule of the same name; by hand see `python scripts/probe.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.probe import run

if __name__ == "__main__":
    main(run)
