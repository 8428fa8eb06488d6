"""One adversarial set.

Run by the rule of the same name; by hand see `python scripts/attack.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.attack import run

if __name__ == "__main__":
    main(run)
