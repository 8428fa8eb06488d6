"""A denoiser's reconstruction error on held-out images.

Run by the rule of the same name; by hand see `python scripts/calibrate.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.calibrate import run

if __name__ == "__main__":
    main(run)
