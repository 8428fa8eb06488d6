"""A handful of images with what became of them.

Run by the rule of the same name; by hand see `python scripts/examples.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.examples import run

if __name__ == "__main__":
    main(run)
