"""One trained denoiser.

Run by the rule of the same name; by hand see `python scripts/train_denoiser.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.training import train_denoiser

if __name__ == "__main__":
    main(train_denoiser)
