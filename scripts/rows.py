"""Rows for programs, joined from result files.

Run by the rule of the same name; by hand see `python scripts/rows.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.rows import run

if __name__ == "__main__":
    main(run)
