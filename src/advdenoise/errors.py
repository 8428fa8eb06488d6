"""What can go wrong for a user, each told in one sentence."""

import difflib

# Exit status of a job that was asked to stop (SIGTERM, SIGUSR1) and saved its state first:
# BSD's EX_TEMPFAIL, "try again later".
EXIT_PREEMPTED = 75
# Names that a sentence lists.
_MOST = 20


class BadInput(Exception):
    """A mistake in what the user gave: the message names the key or file and the remedy."""


class DamagedFile(BadInput):
    """A file that is truncated, altered or of another kind than its path says."""


class Preempted(BaseException):
    """The job was asked to stop and has saved what it had.

    Not an `Exception`, so that no handler for ordinary errors swallows it.
    """


def short(reason: object) -> str:
    """The first line of an error or a text, up to 120 characters; of an empty one its type."""
    return str(reason).strip().partition("\n")[0][:120] or type(reason).__name__


def remedy(path: object) -> str:
    """How a file is made again, to end a sentence with."""
    return f"delete it and run `snakemake --cores all {path}`"


def suggest(word: str, options) -> str:
    """The end of a sentence about an unknown word: near names, or all that there are."""
    options = sorted(options)
    near = difflib.get_close_matches(str(word), options, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    shown = (
        options if len(options) <= _MOST else [*options[:_MOST], f"and {len(options) - _MOST} more"]
    )
    return f"there are: {', '.join(shown)}" if options else "there are none"
