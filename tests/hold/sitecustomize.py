"""With this folder on PYTHONPATH, Python holds where a certain file is put into its place.

ADVDENOISE_TEST_HOLD is `before` or `after`, a space, and a regular expression for the file's path.
The first process that comes there writes its number to the file ADVDENOISE_TEST_HELD and waits for
a signal, so that a test knows where it is without sleeping.
"""

import os
import re
import signal

_replace = os.replace


def _hold() -> None:
    held = os.environ["ADVDENOISE_TEST_HELD"]
    part = f"{held}.{os.getpid()}"
    with open(part, "x", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    try:
        os.link(part, held)
    except FileExistsError:
        return
    finally:
        os.unlink(part)
    signal.pause()


def _replace_and_hold(source, target, **options) -> None:
    when, _, pattern = os.environ["ADVDENOISE_TEST_HOLD"].partition(" ")
    there = re.search(pattern, os.fspath(target)) is not None
    if there and when == "before":
        _hold()
    _replace(source, target, **options)
    if there and when == "after":
        _hold()


if "ADVDENOISE_TEST_HOLD" in os.environ:
    os.replace = _replace_and_hold
