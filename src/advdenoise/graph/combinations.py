"""The combinations of a crossing's names, and those that a data set leaves out."""

import itertools
from collections.abc import Iterator
from typing import Any

from advdenoise.graph import choices, threats
from advdenoise.graph.sections.attacks import why_not_adaptive
from advdenoise.graph.sections.common import KIND_OF
from advdenoise.graph.stages import crossings
from advdenoise.graph.threats import NO_PURIFIER, Threat


def combinations(config: Any, product: dict) -> tuple[dict[str, list[dict]], list[str]]:
    """What a table or figure reads by stage, as names, and why others are left out."""
    combined: dict[str, list[dict]] = {}
    left_out: dict[str, None] = {}
    for stage in crossings():
        for crossing in product.get(stage, []):
            for names in _cross(config, stage, crossing):
                if reason := _unfit(config, names):
                    left_out[reason] = None
                else:
                    combined.setdefault(stage, []).append(names)
    return combined, list(left_out)


def all_left_out(config: Any) -> list[str]:
    """Why combinations and threats of suites are left out anywhere, each reason once."""
    reasons: dict[str, None] = {}
    for experiment in config["experiments"].values():
        for product in (*experiment["tables"].values(), *experiment["figures"].values()):
            combined, left_out = combinations(config, product)
            reasons |= dict.fromkeys(left_out)
            for names in itertools.chain.from_iterable(combined.values()):
                reasons |= dict.fromkeys(_left_out_threats(config, **names))
    return list(reasons)


def _left_out_threats(
    config: Any, dataset: str, suite: str | None = None, **others: Any
) -> Iterator[str]:
    for text in config["suites"][suite]["threats"] if suite else ():
        if not _threat_fits(config, threats.parse(text), dataset):
            yield f"threat {text} of suite {suite}: not for data set {dataset}"


def _cross(config: Any, stage: str, crossing: dict) -> Iterator[dict]:
    """Every combination of a crossing's names, threats as paths name them."""
    keys = ["dataset", *(key for key in crossings()[stage] if key in crossing)]
    for values in itertools.product(*(crossing[key] for key in keys)):
        names = dict(zip(keys, values, strict=True))
        if "threat" in names:
            threat = threats.parse(names["threat"])
            classifier: Any = names.get("classifier", threat.victim)
            against = threat.against(classifier, names.get("purifier", NO_PURIFIER))
            names["threat"] = str(against)
        if stage == "predictions" and "purifier" not in names:
            for purifier in config["suites"][names["suite"]]["purifiers"]:
                yield names | {"purifier": purifier}
        else:
            yield names


def _unfit(config: Any, names: dict) -> str | None:
    """Why a combination is left out: an entry that is not for this data set."""
    dataset = names["dataset"]
    for key, kind in KIND_OF.items():
        if kind in ("datasets", "suites") or key not in names:
            continue
        if not fits(config, kind, names[key], dataset):
            return f"{kind} {names[key]}: not for data set {dataset}"
    if "entry" in names:
        its_kind = choices.choosing(config)[names["entry"]]
        if not fits(config, its_kind, names["entry"], dataset):
            return f"{its_kind} {names['entry']}: not for data set {dataset}"
    if "threat" in names and not _threat_fits(config, threats.parse(names["threat"]), dataset):
        return f"threat {names['threat']}: not for data set {dataset}"
    return None


def fits(config: Any, kind: str, name: str, dataset: str) -> bool:
    """Whether an entry, and all that it uses, is for a data set."""
    entry = config[kind][name]
    if dataset not in entry.get("datasets", [dataset]):
        return False
    if kind == "purifiers":
        parts = [("attacks", attack) for attack in sorted(choices.attacks(entry))]
        parts += [("denoisers", entry["denoiser"])] if "denoiser" in entry else []
        return all(fits(config, *part, dataset) for part in parts)
    if kind == "attacks" and "surrogate" in entry:
        return fits(config, "classifiers", entry["surrogate"], dataset)
    trained = kind in ("classifiers", "denoisers")
    start = entry.get("training", {}).get("start") if trained else None
    if start and not fits(config, kind, start, dataset):
        return False
    if kind == "denoisers":
        sources = [threats.parse(s["threat"]) for s in entry.get("trained_on", []) if "threat" in s]
        return all(_threat_fits(config, threat, dataset) for threat in sources)
    return True


def _threat_fits(config: Any, threat: Threat, dataset: str) -> bool:
    if threat.is_clean:
        return True
    parts = [("attacks", threat.attack), ("classifiers", threat.victim)]
    parts.append(("purifiers", threat.purifier))
    return all(fits(config, kind, name, dataset) for kind, name in parts if name)


def suite_threats(
    config: Any, suite: str, dataset: str, classifier: str, purifier: str
) -> list[Threat]:
    """A suite's threats against the classifier and the purifier at hand.

    One that is to know the purifier and cannot was put into the suite by `everywhere`.
    """
    texts = [
        text
        for text in config["suites"][suite]["threats"]
        if threats.parse(text).purifier != "" or not why_not_adaptive(config, text, purifier)
    ]
    concrete = [threats.parse(text).against(classifier, purifier) for text in texts]
    return [t for t in dict.fromkeys(concrete) if _threat_fits(config, t, dataset)]


def suite_purifiers(config: Any, suite: str, dataset: str) -> list[str]:
    """A suite's purifiers that are for a data set."""
    names = config["suites"][suite]["purifiers"]
    return [name for name in names if fits(config, "purifiers", name, dataset)]
