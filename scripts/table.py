"""One table.

Run by the rule of the same name; by hand see `python -m scripts.table --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.table import run

if __name__ == "__main__":
    main(run)
