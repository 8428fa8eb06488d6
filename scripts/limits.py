"""How far an attack with a stop rule goes under each limit of its steps.

Run by the rule of the same name; by hand see `python -m scripts.limits --help`.
"""

from scripts.advdenoise.stages.command import main
from scripts.advdenoise.stages.limits import run

if __name__ == "__main__":
    main(run)
