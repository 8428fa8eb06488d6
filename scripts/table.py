"""One table.

Run by the rule of the same name; by hand see `python scripts/table.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.table import run

if __name__ == "__main__":
    main(run)
