"""The values of an entry's settings that a job chooses, with every candidate's score.

Run by the rule of the same name; by hand see `python scripts/choose.py --help`.
"""

from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.choose import run

if __name__ == "__main__":
    main(run)
