"""One split of a data set, as HDF5.

Run by the rule of the same name; by hand see `python -m scripts.images --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.images import run

if __name__ == "__main__":
    main(run)
