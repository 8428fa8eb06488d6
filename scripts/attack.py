"""One adversarial set. Run by the rule of the same name; `python -m scripts.attack --help` by hand."""

from scripts.advdenoise.stages.attack import run
from scripts.advdenoise.stages.command import main

if __name__ == "__main__":
    main(run)
