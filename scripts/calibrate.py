"""A denoiser's reconstruction error on held-out images.

Run by the rule of the same name; by hand see `python -m scripts.calibrate --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.calibrate import run

if __name__ == "__main__":
    main(run)
