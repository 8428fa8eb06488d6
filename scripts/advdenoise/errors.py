"""What can go wrong for a user, each told in one sentence."""

# Exit status of a job that was asked to stop (SIGTERM, SIGUSR1) and saved its state first:
# BSD's EX_TEMPFAIL, "try again later".
EXIT_PREEMPTED = 75


class BadInput(Exception):
    """A mistake in what the user gave: the message names the key or file and the remedy."""


class DamagedFile(BadInput):
    """A file that is truncated, altered or of another kind than its path says."""


class Preempted(BaseException):
    """The job was asked to stop and has saved what it had.

    Not an `Exception`, so that no handler for ordinary errors swallows it.
    """
