"""An attack job for tests, which can be stopped where they want it.

python -m tests.stages.attack_worker STOP_AT OPTION...: the options are those of `scripts.attack`.
Prints `batch N` before each batch and, at the one of STOP_AT, waits for a line on its standard
input. Every batch goes to disk at once.
"""

import sys

from advdenoise.stages import attack, command, finished


def main() -> None:
    stop_at, *options = sys.argv[1:]
    batches = iter(range(1000))
    make = attack.AttackRun.__call__

    def stopping(*arguments):
        number = next(batches)
        print("batch", number, flush=True)
        if number == int(stop_at):
            sys.stdin.readline()
        return make(*arguments)

    attack.AttackRun.__call__ = stopping
    finished.FLUSH_SECONDS = 0.0
    command.main(attack.run, options)


if __name__ == "__main__":
    main()
