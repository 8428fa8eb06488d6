"""One trained classifier. Run by the rule of the same name; `python -m scripts.train_classifier --help` by hand."""

from scripts.advdenoise.stages.command import main
from scripts.advdenoise.stages.training import train_classifier

if __name__ == "__main__":
    main(train_classifier)
