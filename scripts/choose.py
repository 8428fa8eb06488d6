"""The values of an entry's settings that a job chooses, with every candidate's score.

Run by the rule of the same name; by hand see `python -m scripts.choose --help`.
"""

from scripts.advdenoise.stages.command import importing, main

with importing():
    from scripts.advdenoise.stages.choose import run

if __name__ == "__main__":
    main(run)
