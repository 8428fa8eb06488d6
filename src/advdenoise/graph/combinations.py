"""The combinations of a crossing's names, and those that a data set leaves out."""

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from advdenoise.graph import choices, threats
from advdenoise.graph.sections.attacks import PATHS, why_not_adaptive
from advdenoise.graph.sections.common import KIND_OF, Kind
from advdenoise.graph.stages import crossings
from advdenoise.graph.threats import NO_PURIFIER, Threat

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration
    from advdenoise.graph.sections.experiments import Crossing, Product

# One combination: the names that a file is named by, such as `{"dataset": ..., "suite": ...}`.
Names = dict[str, str]


def combinations(
    config: "Configuration", product: "Product"
) -> tuple[dict[str, list[Names]], list[str]]:
    """The combinations that a table or figure reads, by stage, and why others are left out."""
    combined: dict[str, list[Names]] = {}
    left_out: dict[str, None] = {}
    for stage in crossings():
        for crossing in product.get(stage, []):
            for names in _cross(config, stage, crossing):
                if reason := _why_left_out(config, names):
                    left_out[reason] = None
                else:
                    combined.setdefault(stage, []).append(names)
    return combined, list(left_out)


def all_left_out(config: "Configuration") -> list[str]:
    """Why combinations and threats of suites are left out anywhere, each reason once."""
    reasons: dict[str, None] = {}
    for experiment in config["experiments"].values():
        for product in (*experiment["tables"].values(), *experiment["figures"].values()):
            combined, left_out = combinations(config, product)
            reasons |= dict.fromkeys(left_out)
            for names in itertools.chain.from_iterable(combined.values()):
                if "suite" in names:
                    left_out_threats = _left_out_threats(config, names["suite"], names["dataset"])
                    reasons |= dict.fromkeys(left_out_threats)
    return list(reasons)


def _left_out_threats(config: "Configuration", suite: str, dataset: str) -> Iterator[str]:
    for text in config["suites"][suite]["threats"]:
        if not _threat_fits(config, threats.parse(text), dataset):
            yield f"threat {text} of suite {suite}: not for data set {dataset}"


def _cross(config: "Configuration", stage: str, crossing: "Crossing") -> Iterator[Names]:
    """Every combination of a crossing's names, with threats as paths name them."""
    keys = ["dataset", *(key for key in crossings()[stage] if key in crossing)]
    for values in itertools.product(*(crossing[key] for key in keys)):
        names = dict(zip(keys, values, strict=True))
        if "threat" in names:
            threat = threats.parse(names["threat"])
            classifier, purifier = names.get("classifier", ""), names.get("purifier", NO_PURIFIER)
            names["threat"] = str(threat.against(classifier, purifier))
        if stage == "predictions" and "purifier" not in names:
            for purifier in config["suites"][names["suite"]]["purifiers"]:
                yield names | {"purifier": purifier}
        else:
            yield names


def _why_left_out(config: "Configuration", names: Names) -> str | None:
    """The entry of a combination that is not for its data set, in a sentence; None without one."""
    dataset = names["dataset"]
    for key, kind in KIND_OF.items():
        if kind == "datasets" or kind == "suites" or key not in names:
            continue
        if not fits(config, kind, names[key], dataset):
            return f"{kind} {names[key]}: not for data set {dataset}"
    if "entry" in names:
        kind = choices.choosing(config)[names["entry"]]
        if not fits(config, kind, names["entry"], dataset):
            return f"{kind} {names['entry']}: not for data set {dataset}"
    if "threat" in names and not _threat_fits(config, threats.parse(names["threat"]), dataset):
        return f"threat {names['threat']}: not for data set {dataset}"
    return None


def fits(config: "Configuration", kind: Kind, name: str, dataset: str) -> bool:
    """Whether an entry, and all that it uses, is for a data set."""
    entries: Mapping[str, Mapping[str, Any]] = config[kind]
    entry = entries[name]
    if dataset not in entry.get("datasets", [dataset]):
        return False
    return all(fits(config, *other, dataset) for other in _uses(kind, entry))


def _uses(kind: Kind, entry: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
    """The entries that an entry uses, each with its section."""
    if kind == "purifiers":
        for attack in sorted(choices.attacks(entry)):
            yield "attacks", attack
        if "denoiser" in entry:
            yield "denoisers", entry["denoiser"]
    elif kind == "attacks":
        if "surrogate" in entry:
            yield "classifiers", entry["surrogate"]
        if entry.get("through", PATHS[0]) not in PATHS:
            yield "purifiers", entry["through"]
        for name in entry.get("spare", []):
            yield "attacks", name
    elif kind in ("classifiers", "denoisers"):
        if start := entry.get("training", {}).get("start"):
            yield kind, start
        for source in entry.get("trained_on", []):
            if "threat" in source:
                yield from _entries_of(threats.parse(source["threat"]))


def _entries_of(threat: Threat) -> Iterator[tuple[Kind, str]]:
    """The entries that a threat names, each with its section."""
    if threat.is_clean:
        return
    yield "attacks", threat.attack
    if threat.victim:
        yield "classifiers", threat.victim
    if threat.purifier:
        yield "purifiers", threat.purifier


def _threat_fits(config: "Configuration", threat: Threat, dataset: str) -> bool:
    return all(fits(config, kind, name, dataset) for kind, name in _entries_of(threat))


def suite_threats(
    config: "Configuration", suite: str, dataset: str, classifier: str, purifier: str
) -> list[Threat]:
    """A suite's threats against the classifier and the purifier at hand.

    Those that cannot be adaptive to the purifier are left out; `everywhere` put them there.
    """
    texts = [
        text
        for text in config["suites"][suite]["threats"]
        if threats.parse(text).purifier != "" or not why_not_adaptive(config, text, purifier)
    ]
    against = [threats.parse(text).against(classifier, purifier) for text in texts]
    return [threat for threat in dict.fromkeys(against) if _threat_fits(config, threat, dataset)]


def suite_purifiers(config: "Configuration", suite: str, dataset: str) -> list[str]:
    """A suite's purifiers that are for a data set."""
    names = config["suites"][suite]["purifiers"]
    return [name for name in names if fits(config, "purifiers", name, dataset)]
