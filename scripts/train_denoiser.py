"""One trained denoiser. Run by the rule of the same name; `python -m scripts.train_denoiser --help` by hand."""

from scripts.advdenoise.stages.command import main
from scripts.advdenoise.stages.training import train_denoiser

if __name__ == "__main__":
    main(train_denoiser)
