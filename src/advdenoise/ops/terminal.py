"""What programs for the terminal share: a mistake is one sentence, a reader that left is none."""

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from advdenoise.errors import BadInput
from advdenoise.ops.system import refusal_message


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
            discard_output(sys.stdout.fileno())  # Python flushes once more as it ends
            return 128 + signal.SIGPIPE
        except BadInput as mistake:
            sentence = str(mistake)
        except OSError as error:
            sentence = refusal_message(error)
            if sentence is None:
                raise
        print(sentence, file=sys.stderr)
        return 1

    return guarded


def ignore_closed_output(logger: logging.Logger) -> None:
    """Let a run go on where nobody reads what its log prints any more, as behind `| head`."""
    for handler in logger.handlers:
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
            handler.stream = _Unread(handler.stream)


def discard_output(number: int) -> None:
    """Let what is written to a file of this number vanish."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


class _Unread:
    """A stream whose reader may leave."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        self._try(self._stream.write, text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable, *arguments) -> None:
        try:
            action(*arguments)
        except BrokenPipeError:
            discard_output(self._stream.fileno())

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
