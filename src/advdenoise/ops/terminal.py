"""Errors and closed pipes of command-line programs."""

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
    """Decorate `main` to end in one sentence for BadInput and errors of the operating system.

    If its output is closed, as by `| head`, it ends silently with the exit status of a program
    that SIGPIPE ended.
    """

    @functools.wraps(main)
    def wrapped(arguments: list[str] | None = None) -> int:
        try:
            status = main(arguments)
            if sys.stdout:  # None if the caller closed it
                sys.stdout.flush()
            return status
        except BrokenPipeError:
            discard_output(sys.stdout.fileno())  # Python flushes once more as it ends
            return 128 + signal.SIGPIPE
        except BadInput as error:
            message = str(error)
        except OSError as error:
            refused = refusal_message(error)
            if refused is None:
                raise
            message = refused
        print(message, file=sys.stderr)
        return 1

    return wrapped


def ignore_closed_output(logger: logging.Logger) -> None:
    """Keep a run going when the reader of its log closes the pipe, as `| head` does."""
    for handler in logger.handlers:
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
            handler.stream = _Unbreakable(handler.stream)  # type: ignore[attr-defined]


def discard_output(descriptor: int) -> None:
    """Redirect a file descriptor to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


class _Unbreakable:
    """A stream that discards its output once the pipe is closed."""

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
