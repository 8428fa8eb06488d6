"""How much of a defence an attack uses, derived from its threat and its entry."""

from collections.abc import Mapping
from typing import Any

from advdenoise.graph import components
from advdenoise.graph.components import OF_DENOISERS
from advdenoise.graph.threats import CLEAN, NO_PURIFIER, parse

QUERY, OBLIVIOUS, TRANSFER = "query", "oblivious", "transfer"
GREY, ADAPTIVE, FIXED = "grey", "adaptive", "fixed"
KNOWLEDGE = (CLEAN, OBLIVIOUS, TRANSFER, QUERY, GREY, ADAPTIVE, FIXED)

_DENOISER, _PURIFIER = "denoiser", "purifier"  # values of `through` and `forward`
_OF_PURIFIER = ("full", "identity", "intermediate")  # paths through the purifier at hand


def knowledge(
    threat: str, entry: Mapping[str, Any], point: str, classifier: str, purifier: str
) -> str:
    """How much an attack uses of a classifier behind a purifier; one of `KNOWLEDGE`.

    - fixed: the draws of the evaluation too (`knows_draws`).
    - transfer: the attack is on another classifier or purifier, or by a surrogate's gradient.
    - oblivious: the attack is on the classifier alone, or needs no model.
    - query: outputs of the whole defence, without a gradient.
    - grey: a part of the defence, its denoiser, stands for the purifier.
    - adaptive: gradients of the whole defence. Without a purifier that is the classifier.

    Args:
        threat: as in rows of results, with its victim.
        entry: the attack's entry.
        point: the point of it.
        classifier: the classifier at hand.
        purifier: the purifier at hand.
    """
    parsed = parse(threat)
    if parsed.is_clean:
        return CLEAN
    if entry.get("knows_draws", False):
        return FIXED
    through = entry.get("through", "full")
    is_guided = entry.get("forward") == _PURIFIER  # another path, but the purifier's own outputs
    others = [
        parsed.victim not in (None, classifier),
        entry.get("surrogate", parsed.victim) != parsed.victim,
        parsed.purifier is not None and parsed.purifier != purifier,
        through not in (*_OF_PURIFIER, _DENOISER, purifier) and not is_guided,
    ]
    if any(others):
        return TRANSFER
    injected = _injected(entry, point)
    if (parsed.purifier is None and purifier != NO_PURIFIER) or not _models(injected):
        return OBLIVIOUS
    if not follows_gradient(entry, point):
        return QUERY
    uses_part = through == _DENOISER and not is_guided
    return GREY if uses_part or OF_DENOISERS & injected else ADAPTIVE


def follows_gradient(entry: Mapping[str, Any], point: str) -> bool:
    """Whether a point of an attack takes gradients of a model."""
    return bool({"predict", "classifier"} & _injected(entry, point))


def looks_at_model(entry: Mapping[str, Any], point: str) -> bool:
    """Whether a point of an attack uses any model, as noise and corruptions do not."""
    return bool(_models(_injected(entry, point)))


def _models(injected: set[str]) -> set[str]:
    return {"predict", "victim", "classifier", *OF_DENOISERS} & injected


def _injected(entry: Mapping[str, Any], point: str) -> set[str]:
    return {*components.signature_of("attacks", entry["points"][point]).injected}
