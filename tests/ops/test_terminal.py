"""Programs end in one sentence after an error, and silently when their output is closed."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.errors import BadInput
from advdenoise.ops import terminal

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import sys
from advdenoise.ops.terminal import program

@program
def main(arguments):
    print(*range(10**5), sep="\\n")
    return 0

sys.exit(main())
"""


def run(command, **options):
    return subprocess.run(
        ["bash", "-c", command, sys.executable, PROGRAM],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        **options,
    )


def test_a_closed_pipe_ends_a_program_silently():
    done = run('"$0" -c "$1" | head -n 1; exit "${PIPESTATUS[0]}"')
    assert (done.returncode, done.stdout, done.stderr) == (141, "0\n", "")


def test_a_closed_standard_output_is_not_an_error():
    done = run('"$0" -c "$1" >&-')
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BadInput("a: what is wrong; what to do"), "a: what is wrong; what to do\n"),
        (PermissionError(errno.EACCES, "", "a/b"), "a/b: permission denied; "),
    ],
)
def test_errors_are_one_sentence(capsys, error, message):
    def main(arguments):
        raise error

    assert terminal.program(main)([]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(message) and printed.err.count("\n") == 1
    assert printed.out == ""


def test_other_errors_are_raised():
    def main(arguments):
        raise FileNotFoundError(errno.ENOENT, "", "a")

    with pytest.raises(FileNotFoundError):
        terminal.program(main)([])


@pytest.fixture
def pipe():
    """A stream to a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:
        yield stream
        terminal.discard_output(stream.fileno())


def test_a_log_survives_a_closed_pipe(pipe, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", pipe)
    logger = logging.Logger("of a run")
    file = logging.FileHandler(tmp_path / "log")
    for handler in (logging.StreamHandler(pipe), file):
        logger.addHandler(handler)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    terminal.ignore_closed_output(logger)
    for word in ("one", "two"):
        logger.error(word)
    file.close()
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert logger.handlers[0].stream.isatty() is False
    pipe.write("more")
    pipe.flush()
