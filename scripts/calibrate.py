"""A denoiser's reconstruction error on held-out images. Run by the rule of the same name; `python -m scripts.calibrate --help` by hand."""

from scripts.advdenoise.stages.calibrate import run
from scripts.advdenoise.stages.command import main

if __name__ == "__main__":
    main(run)
