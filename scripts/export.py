"""An image set as plain images and labels.

Run by the rule of the same name; by hand see `python scripts/export.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.export import run

if __name__ == "__main__":
    main(run)
