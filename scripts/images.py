"""One split of a data set, as HDF5. Run by the rule of the same name; `python -m scripts.images --help` by hand."""

from scripts.advdenoise.stages.command import main
from scripts.advdenoise.stages.images import run

if __name__ == "__main__":
    main(run)
