"""The name of what an image went through: `clean`, `attack@victim`, `attack@victim+purifier`."""

import re
from typing import NamedTuple

CLEAN = "clean"
NO_PURIFIER = "none"
_PATTERN = re.compile(
    r"(?P<attack>[a-z0-9_]+)(@(?P<victim>[a-z0-9_]+))?(?P<knows>\+(?P<purifier>[a-z0-9_]*))?"
)


class Threat(NamedTuple):
    """A threat; `victim` None is the classifier at hand, `purifier` "" the purifier at hand.

    `purifier` None is an attacker who knows of none (oblivious).
    """

    attack: str
    victim: str | None = None
    purifier: str | None = None

    @property
    def is_clean(self) -> bool:
        return self.attack == CLEAN

    def against(self, classifier: str, purifier: str) -> "Threat":
        """The threat as a path names it, for the classifier and the purifier at hand."""
        if self.is_clean:
            return self
        known = purifier if self.purifier == "" else self.purifier
        return Threat(
            self.attack, self.victim or classifier, None if known == NO_PURIFIER else known
        )

    def __str__(self) -> str:
        victim = f"@{self.victim}" if self.victim else ""
        purifier = "" if self.purifier is None else f"+{self.purifier}"
        return f"{self.attack}{victim}{purifier}"


def parse(text: str) -> Threat:
    """A threat from its name; ValueError where it is none."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a threat")
    purifier = match["purifier"] if match["knows"] else None
    return Threat(match["attack"], match["victim"], purifier)
