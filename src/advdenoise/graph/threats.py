"""The name of what an image went through: `clean`, `attack@victim`, `attack@victim+purifier`."""

import re
from typing import NamedTuple

CLEAN = "clean"
NO_PURIFIER = "none"
_PATTERN = re.compile(
    r"(?P<attack>[a-z0-9_]+)(@(?P<victim>[a-z0-9_]+))?(?P<plus>\+(?P<purifier>[a-z0-9_]*))?"
)


class Threat(NamedTuple):
    """A threat; `victim` None is the classifier at hand, `purifier` "" the purifier at hand.

    `purifier` None is an oblivious attack.
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
        attacked = purifier if self.purifier == "" else self.purifier
        victim = self.victim or classifier
        return Threat(self.attack, victim, None if attacked == NO_PURIFIER else attacked)

    def __str__(self) -> str:
        victim = f"@{self.victim}" if self.victim else ""
        purifier = "" if self.purifier is None else f"+{self.purifier}"
        return f"{self.attack}{victim}{purifier}"


def parse(text: str) -> Threat:
    """A threat from its name. Raises ValueError where the name is not a threat's."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a threat")
    purifier = match["purifier"] if match["plus"] else None
    return Threat(match["attack"], match["victim"], purifier)
