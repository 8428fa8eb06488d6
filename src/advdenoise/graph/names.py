"""The names by which entries, threats and suites refer to others."""

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components, threats
from advdenoise.graph.kinds import (
    BUILT_IN_SPLITS,
    DENSE,
    GENERATOR,
    KINDS,
    OF_DENOISERS,
    SEGMENTER,
    conversion,
    injected_names,
    looks_at_model,
    returned,
)
from advdenoise.graph.threats import CLEAN, NO_PURIFIER, Threat


def known(config: dict, kind: str, name: str, key: str) -> dict:
    """The entry of that name; BadInput naming `key` where it is not configured."""
    if name not in config[kind]:
        raise BadInput(
            f"{key}: {name!r} is not configured under {kind}; {suggest(name, config[kind])}"
        )
    return config[kind][name]


def check_names(config: dict) -> None:
    for kind in KINDS:
        for name, entry in config[kind].items():
            for place in entry.get("datasets", []):
                known(config, "datasets", place, f"{kind}.{name}.datasets")
    for name, entry in config["attacks"].items():
        if "surrogate" in entry:
            _check_surrogate(config, f"attacks.{name}", entry)
    for name, entry in config["purifiers"].items():
        if "denoiser" in entry:
            key = f"purifiers.{name}.denoiser"
            _check_used(key, entry, known(config, "denoisers", entry["denoiser"], key))
        for block in choices.own(name, entry):
            _check_chooser(config, f"purifiers.{name}", block)
    for kind in ("classifiers", "denoisers"):
        for name, entry in config[kind].items():
            training = entry.get("training", {})
            if "dataset" in training:
                _check_training_dataset(config, kind, name)
            if "start" in training:
                _check_start(config, kind, name)
            if training.get("stop", {}).get("measured_on") == "held_out":
                _check_held_out(config, f"{kind}.{name}", entry)
    for kind in ("classifiers", "denoisers"):
        for name, entry in config[kind].items():
            _check_split(config, f"{kind}.{name}", entry)
    for name, entry in config["denoisers"].items():
        if "trained_on" in entry:
            _check_sources(config, f"denoisers.{name}.trained_on", entry["trained_on"])
        if "network" in entry.get("training", {}):
            _check_trained(config, f"denoisers.{name}", entry, "network", "classifiers")
    for name, suite in config["suites"].items():
        for text in suite["threats"]:
            check_threat(config, text, f"suites.{name}.threats")
        for purifier in suite["purifiers"]:
            known(config, "purifiers", purifier, f"suites.{name}.purifiers")
    for part in ("distances", "hidden"):
        for classifier in config[part]["taps"]:
            known(config, "classifiers", classifier, f"{part}.taps")
    for classifier in config.get("examples", {}).get("maps", {}):
        known(config, "classifiers", classifier, "examples.maps")
    for name in config.get("examples", {}).get("superpixels", []):
        known(config, "attributions", name, "examples.superpixels")


def _check_used(key: str, purifier: dict, denoiser: dict) -> None:
    """A purifier that searches a generator's codes uses a generator, and no other does."""
    is_generator = returned("denoisers", denoiser) == GENERATOR
    for point in purifier["points"].values():
        uses = OF_DENOISERS & {*components.signature_of("purifiers", point).injected}
        if is_generator != ("generate" in uses):
            pair = ("a generator", "a denoiser of images")
            has, wants = pair if is_generator else pair[::-1]
            raise BadInput(
                f"{key}: {denoiser['function']} is {has}, but {point['function']} uses {wants}; "
                "name another denoiser"
            )


def _check_surrogate(config: dict, key: str, attack: dict) -> None:
    """The surrogate is there, and for the data sets that the attack says it is for."""
    name = attack["surrogate"]
    surrogate = known(config, "classifiers", name, f"{key}.surrogate")
    for dataset in attack.get("datasets", []):
        if dataset not in surrogate.get("datasets", [dataset]):
            raise BadInput(
                f"{key}.surrogate: {name!r} is not for data set {dataset!r}; add it to "
                f"classifiers.{name}.datasets or say {key}.datasets without it"
            )


def _check_chooser(config: dict, key: str, block: choices.Block) -> None:
    """The attack that a purifier's setting is chosen under is one that knows no purifier."""
    key = f"{key}.points.{block.point}.settings.{block.setting}.by.attack"
    name, _, point = block.block["by"]["attack"].partition(" ")
    check_threat(config, name, key)
    points = config["attacks"].get(name, {"points": {}})["points"]
    if (point or choices.DEFAULT) not in points:
        raise BadInput(
            f"{key}: {block.block['by']['attack']!r} is no point of an attack; "
            f"{suggest(point, [f'{name} {other}' for other in points])}"
        )


def _check_trained(config: dict, key: str, entry: dict, word: str, kind: str) -> dict:
    """The trained entry that a training names is there for every data set of its own."""
    name = entry["training"][word]
    named = known(config, kind, name, f"{key}.training.{word}")
    for dataset in entry.get("datasets", config["datasets"]):
        if dataset not in named.get("datasets", [dataset]):
            raise BadInput(
                f"{key}.training.{word}: {name!r} is not for data set {dataset!r}; add it to "
                f"{kind}.{name}.datasets or say {key}.datasets without it"
            )
    return named


def _check_training_dataset(config: dict, kind: str, name: str) -> None:
    """A classifier may be trained on another data set, if that has what it learns from."""
    key, training = f"{kind}.{name}.training.dataset", config[kind][name]["training"]
    if kind != "classifiers":
        raise BadInput(f"{key}: a denoiser is trained on the data set at hand; take it out")
    other = known(config, "datasets", training["dataset"], key)
    dense = returned("datasets", other) == DENSE
    if dense != (returned("classifiers", config[kind][name]) == SEGMENTER):
        has, needs = ("masks", "labels") if dense else ("labels", "masks")
        raise BadInput(
            f"{key}: {training['dataset']!r} has {has}, but the classifier learns from {needs}; "
            f"take a data set with {needs}"
        )


def _check_start(config: dict, kind: str, name: str) -> None:
    """A start is trained before, and its weights fit."""
    key, entry = f"{kind}.{name}", config[kind][name]
    start = entry["training"]["start"]
    begun = _check_trained(config, key, entry, "start", kind)
    if _architecture(kind, begun) != _architecture(kind, entry):
        raise BadInput(
            f"{key}.training.start: {start!r} has another function or other settings, so that its "
            "weights do not fit; give both the same or take the start out"
        )
    path = [name]
    while start := config[kind].get(path[-1], {}).get("training", {}).get("start"):
        path.append(start)
        if start in path[:-1]:
            circle = path[path.index(start) :]
            raise BadInput(
                f"{kind}.{start}.training.start: {start!r} starts from itself "
                f"({' -> '.join(circle)}); name another entry"
            )


def _architecture(kind: str, entry: dict) -> tuple[str, dict]:
    """What decides the shapes of an entry's weights, and what the network makes of them."""
    settings = components.without_first_weights(kind, entry)["settings"]
    return entry["function"], settings | conversion(entry)


def _check_split(config: dict, key: str, entry: dict) -> None:
    """The split that an entry is trained on is one of every data set that the entry names."""
    split = entry.get("training", {}).get("split", BUILT_IN_SPLITS[0])
    splits = {n: {*BUILT_IN_SPLITS, *d["splits"]} for n, d in config["datasets"].items()}
    named = entry.get("datasets", [])
    if named or not any(split in own for own in splits.values()):
        for dataset in named or splits:
            if split not in splits[dataset]:
                raise BadInput(
                    f"{key}.training.split: data set {dataset!r} has no split {split!r}; "
                    f"{suggest(split, splits[dataset])}"
                )


def _check_held_out(config: dict, key: str, entry: dict) -> None:
    own = entry.get("datasets", config["datasets"])
    for dataset in [entry["training"]["dataset"]] if "dataset" in entry["training"] else own:
        if "held_out" not in config["datasets"][dataset]["splits"]:
            raise BadInput(
                f"{key}.training.stop.measured_on: data set {dataset!r} holds nothing out; add the "
                f"split held_out to it or say {key}.datasets without it"
            )


def _check_sources(config: dict, key: str, sources: list[dict]) -> None:
    for place, source in enumerate(sources):
        if ("threat" in source) == ("noise" in source):
            raise BadInput(f"{key}.{place}: give either 'threat' or 'noise'")
        if "noise" in source:
            attack = known(config, "attacks", source["noise"], f"{key}.{place}.noise")
            if looks_at_model(attack):
                raise BadInput(
                    f"{key}.{place}.noise: {source['noise']!r} looks at a model; "
                    f"name it as a threat, such as {source['noise']}@classifier"
                )
        else:
            threat = check_threat(config, source["threat"], f"{key}.{place}.threat")
            if not threat.is_clean and threat.victim is None:
                raise BadInput(
                    f"{key}.{place}.threat: {source['threat']!r} names no victim; "
                    f"write {threat.attack}@classifier"
                )
            if threat.purifier == "":
                raise BadInput(
                    f"{key}.{place}.threat: {source['threat']!r} names no purifier; "
                    "write the purifier's name after the +"
                )
    total = sum(source["share"] for source in sources)
    if abs(total - 1) > 1e-6:
        raise BadInput(f"{key}: the shares add up to {total:g}; they must add up to 1")


def check_threat(config: dict, text: str, key: str) -> Threat:
    """The threat of that name, every part of it configured; BadInput naming `key` otherwise."""
    threat = threats.parse(text)
    if threat.is_clean:
        if threat != Threat(CLEAN):
            raise BadInput(f"{key}: {text!r}: clean images have no victim; write clean")
        return threat
    if threat.attack not in config["attacks"]:
        raise BadInput(
            f"{key}: {threat.attack!r} is not configured under attacks; "
            f"{suggest(threat.attack, {*config['attacks'], CLEAN})}"
        )
    attack = config["attacks"][threat.attack]
    if threat.victim:
        known(config, "classifiers", threat.victim, key)
    if threat.purifier:
        known(config, "purifiers", threat.purifier, key)
    if threat.purifier is not None and not looks_at_model(attack):
        raise BadInput(
            f"{key}: {text!r}: {threat.attack} looks at no model and so knows no purifier; "
            "take the + and what follows away"
        )
    known_only = [f".{word}" for word in ("through", "draws") if word in attack]
    if OF_DENOISERS & injected_names(attack):
        known_only.append("")
    if threat.purifier is None and known_only:
        raise BadInput(
            f"attacks.{threat.attack}{known_only[0]}: holds only where the attack knows the "
            f"purifier, but {key} uses it as {text!r}; write {threat.attack}+"
        )
    if threat.purifier and (reason := unknowable(config, text, threat.purifier)):
        raise BadInput(f"{key}: {reason}")
    return threat


def check_knowledge(config: dict) -> None:
    """Attacks of suites can know the purifiers at hand; no denoiser is trained on one that does.

    An attack that is put everywhere meets those that it can know.
    """
    spread = config["everywhere"].get("attacks", [])
    for name, suite in config["suites"].items():
        for text in suite["threats"]:
            if threats.parse(text).purifier == "" and text not in spread:
                for purifier in suite["purifiers"]:
                    if reason := unknowable(config, text, purifier):
                        raise BadInput(f"suites.{name}.threats: {reason}")
    for name in config["denoisers"]:
        _check_acyclic(config, [name])


def unknowable(config: dict, text: str, purifier: str) -> str | None:
    """Why an attack cannot know a purifier: it has several points, or no denoiser to look at."""
    entry, attack = config["purifiers"][purifier], config["attacks"][threats.parse(text).attack]
    looks = attack.get("through") == "denoiser" or OF_DENOISERS & injected_names(attack)
    if looks and purifier != NO_PURIFIER and "denoiser" not in entry:
        return (
            f"{text!r} looks at the denoiser of purifier {purifier!r}, which uses none; "
            "take the purifier or the threat out"
        )
    if len(points := entry["points"]) > 1:
        return (
            f"{text!r} knows purifier {purifier!r}, which has {len(points)} points; an attack can "
            "know only one: make an entry of its own with the point that is attacked"
        )
    return None


def _check_acyclic(config: dict, path: list[str]) -> None:
    """No denoiser is trained on what knows it, or starts from one that is; `path` ends with it."""
    name = path[-1]
    entry = config["denoisers"][name]
    reasons = {}
    if start := entry.get("training", {}).get("start"):
        reasons[start] = (
            f"training.start: {start!r} is trained on what knows {name!r}; start from another"
        )
    for source in entry.get("trained_on", []):
        purifier = threats.parse(source.get("threat", CLEAN)).purifier
        denoiser = config["purifiers"][purifier].get("denoiser") if purifier else None
        if denoiser:
            reasons[denoiser] = (
                f"trained_on: {source['threat']!r} knows the denoiser {denoiser!r} that is trained "
                "on it; train on an attack that does not know it"
            )
    for denoiser, reason in reasons.items():
        if denoiser in path:
            raise BadInput(f"denoisers.{name}.{reason}")
        _check_acyclic(config, [*path, denoiser])
