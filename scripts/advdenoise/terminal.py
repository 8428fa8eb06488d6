"""What programs for the terminal share: a mistake is one sentence, a reader that left is none."""

import functools
import os
import signal
import sys
from collections.abc import Callable

from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.system import refusal


def program(main: Callable[..., int]) -> Callable[..., int]:
    """Let `main` end in one sentence for BadInput and for what the operating system refuses.

    Where nobody reads on, as behind `| head`, it ends without a word, with the exit status of a
    program that SIGPIPE ended.
    """

    @functools.wraps(main)
    def guarded(arguments: list[str] | None = None) -> int:
        try:
            status = main(arguments)
            if sys.stdout:  # none where the caller closed it
                sys.stdout.flush()
            return status
        except BrokenPipeError:
            # Python flushes once more as it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except BadInput as mistake:
            sentence = str(mistake)
        except OSError as error:
            sentence = refusal(error)
            if sentence is None:
                raise
        print(sentence, file=sys.stderr)
        return 1

    return guarded
