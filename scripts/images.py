"""One split of a data set, as HDF5.

Run by the rule of the same name; by hand see `python scripts/images.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.images import run

if __name__ == "__main__":
    main(run)
