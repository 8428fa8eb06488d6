"""One trained denoiser.

Run by the rule of the same name; by hand see `python -m scripts.train_denoiser --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.training import train_denoiser

if __name__ == "__main__":
    main(train_denoiser)
