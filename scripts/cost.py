"""Time and memory of leave-one-out attributions.

Run by the rule of the same name; by hand see `python scripts/cost.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.cost import run

if __name__ == "__main__":
    main(run)
