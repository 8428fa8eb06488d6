"""An image set as plain images and labels.

Run by the rule of the same name; by hand see `python -m scripts.export --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.export import run

if __name__ == "__main__":
    main(run)
