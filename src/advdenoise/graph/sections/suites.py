"""The section `suites`: threats and purifiers that are judged together."""

from typing import TYPE_CHECKING, TypedDict, cast

from advdenoise.errors import BadInput
from advdenoise.graph.sections.attacks import check_one_victim, check_threat, why_not_adaptive
from advdenoise.graph.sections.common import Raw, check_configured
from advdenoise.graph.threats import parse

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration


class Suite(TypedDict):
    """A suite, with the attacks and purifiers that are put everywhere."""

    threats: list[str]
    purifiers: list[str]


def complete(config: Raw) -> None:
    """Add the attacks and purifiers that are put everywhere. Raises BadInput."""
    everywhere = config["everywhere"]
    # Attacks and purifiers are complete, as these checks need them to be.
    entries = cast("Configuration", config)
    for name in everywhere.get("purifiers", []):
        check_configured(entries, "purifiers", name, "everywhere.purifiers")
    for text in everywhere.get("attacks", []):
        check_threat(entries, text, "everywhere.attacks")
    for suite in config["suites"].values():
        for key, name in (("attacks", "threats"), ("purifiers", "purifiers")):
            present = suite.setdefault(name, [])
            present += [item for item in everywhere.get(key, []) if item not in present]


def check_references(config: "Configuration") -> None:
    """Check that threats and purifiers are configured and go together. Raises BadInput.

    An attack that is put everywhere runs only on the purifiers that it can know.
    """
    spread = config["everywhere"].get("attacks", [])
    for name, suite in config["suites"].items():
        key = f"suites.{name}.threats"
        for purifier in suite["purifiers"]:
            check_configured(config, "purifiers", purifier, f"suites.{name}.purifiers")
        for text in suite["threats"]:
            threat = check_threat(config, text, key)
            if threat.purifier == "" and text not in spread:
                _check_adaptive(config, key, text, suite)
            _check_spared(config, key, text, suite)
        check_one_victim(config, key, suite["threats"])


def _check_spared(config: "Configuration", key: str, text: str, suite: Suite) -> None:
    """Images that an attack leaves to others are judged under those others too."""
    threat = parse(text)
    for name in [] if threat.is_clean else config["attacks"][threat.attack].get("spare", []):
        other = str(threat._replace(attack=name))
        if other not in suite["threats"]:
            raise BadInput(
                f"{key}: {text!r} leaves out images that {other!r} fools, which is not here; add it"
            )


def _check_adaptive(config: "Configuration", key: str, text: str, suite: Suite) -> None:
    for purifier in suite["purifiers"]:
        if reason := why_not_adaptive(config, text, purifier):
            raise BadInput(f"{key}: {reason}")
