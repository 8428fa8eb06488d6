"""Rows for programs, joined from result files.

Run by the rule of the same name; by hand see `python -m scripts.rows --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.rows import run

if __name__ == "__main__":
    main(run)
