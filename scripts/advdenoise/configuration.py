"""The configuration: read, completed, converted to one unit, and checked before any job starts.

Every mistake ends in `BadInput` with one sentence: the key, what is wrong, what would be right.
"""

import copy
import functools
import re
from pathlib import Path

from scripts.advdenoise import components, threats
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.sides import both, check_sides
from scripts.advdenoise.threats import CLEAN, NO_PURIFIER, Threat

SCHEMA = Path(__file__).parents[2] / "config" / "schema.yaml"
KINDS = (
    "datasets",
    "classifiers",
    "attacks",
    "denoisers",
    "purifiers",
    "attributions",
    "detectors",
)
# What each stage's file is named by, beside seed and data set.
CROSSINGS = {
    "predictions": ("suite", "purifier", "classifier", "split"),
    "distances": ("suite", "classifier", "split"),
    "iqr": ("threat", "attribution", "classifier", "split"),
    "detection": ("suite", "detector", "attribution", "classifier", "split"),
    "calibration": ("denoiser",),
    "cost": ("attribution", "classifier", "split"),
    "examples": ("threat", "purifier", "classifier", "split"),
    "limits": ("threat", "split"),
}
KIND_OF = {
    "dataset": "datasets",
    "classifier": "classifiers",
    "suite": "suites",
    "purifier": "purifiers",
    "denoiser": "denoisers",
    "detector": "detectors",
    "attribution": "attributions",
}
BUILT_IN_SPLITS = ("train", "held_out", "test")
# The batch that "segfault" tells the cost of (Table 7), and how often it is measured.
_COST = {"images": 128, "repetitions": 3}
# How far a search for the limit of an attack's steps goes, and how many images it looks at.
_LIMITS = {"images": 1000, "steps": 64}
# Settings of an attack that are lengths in pixels and so follow `epsilon_unit`.
_LENGTHS = ("epsilon", "alpha")
# What functions return whose images have masks, and who predicts these.
DENSE, SEGMENTER = "DenseSource", "Segmenter"
# What a purifier, or an attack that knows one, is handed of its denoiser.
_DENOISER = {"denoise", "error", "calibration", "generate"}
_FRACTION = re.compile(r"\s*(\d+(?:\.\d*)?)\s*/\s*(\d+(?:\.\d*)?)\s*")


def read(raw: dict) -> dict:
    """The effective configuration of what Snakemake has merged from the files.

    Fractions such as `8/255` become numbers, another `epsilon_unit` becomes pixels of [0,1],
    `everywhere` is put into the crossings, every entry holds its points in full. Raises `BadInput`.
    """
    config = _numbers(copy.deepcopy(raw), "")
    _check_schema(config)
    _complete(config)
    _check_entries(config)
    _check_names(config)
    _check_knowledge(config)
    return config


# ---------------------------------------------------------------- numbers and schema


def _numbers(value, key: str):
    """Fractions written as text become numbers, everywhere in the configuration."""
    if isinstance(value, dict):
        return {name: _numbers(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item, f"{key}.{place}") for place, item in enumerate(value)]
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if float(match[2]) == 0:
        raise BadInput(f"{key}: {value!r} divides by zero; write a number")
    return float(match[1]) / float(match[2])


@functools.cache
def schema() -> dict:
    """The JSON schema of the configuration."""
    import yaml

    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


@functools.cache
def _validator():
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _check_schema(config: dict) -> None:
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(config))
    if error is not None:
        raise BadInput(_sentence(error))


def _sentence(error) -> str:
    """One sentence for a schema error: the key, what is wrong, what would be right."""
    key = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    found, rule = error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = next(name for name in found if name not in known)
        place = ".".join(str(part) for part in [*error.absolute_path, unknown])
        return f"{place}: unknown key; {components.suggest(unknown, known)}"
    if error.validator == "required":
        missing = next(name for name in rule if name not in found)
        return f"{key}: the key {missing!r} is missing; add it"
    if error.validator == "enum":
        return f"{key}: {found!r} is not possible; {components.suggest(found, map(str, rule))}"
    if error.validator == "type":
        wanted = " or ".join(rule) if isinstance(rule, list) else rule
        return f"{key}: must be of type {wanted}, but is {found!r}"
    if error.validator == "pattern":
        rule = error.schema.get("description", f"It must match {rule}.")
        return f"{key}: {found!r} does not fit; {rule[0].lower()}{rule[1:].rstrip('.')}"
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "greater than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    if error.validator in bounds:
        return f"{key}: must be {bounds[error.validator]} {rule}, but is {found!r}"
    if error.validator in ("minItems", "minProperties"):
        return f"{key}: must not be empty"
    if error.validator == "uniqueItems":
        return f"{key}: the same item stands in {found!r} twice"
    return f"{key}: {error.message}; {error.schema.get('description', 'see config/schema.yaml')}"


# ---------------------------------------------------------------- completion


def _complete(config: dict) -> None:
    for kind in (*KINDS, "suites"):
        config.setdefault(kind, {})
    config["purifiers"].setdefault(NO_PURIFIER, {"function": "basic.none"})
    config.setdefault("data_root", None)
    config.setdefault("protect_weights", False)
    config.setdefault("distances", {"images": 1, "taps": {}})
    config.setdefault("hidden", {"per_layer": 1, "taps": {}})
    config["cost"] = _COST | config.get("cost", {})
    config["limits"] = _LIMITS | config.get("limits", {})
    for name, entry in config["attacks"].items():
        _expand_epsilons(f"attacks.{name}", entry)
    for kind in ("attacks", "purifiers", "attributions", "detectors"):
        for name, entry in config[kind].items():
            _lay_points(f"{kind}.{name}", entry)
    for name, entry in config["attacks"].items():
        _convert_unit(f"attacks.{name}", entry)
    for entry in config["attributions"].values():
        entry.setdefault("masking", 0.0)
        entry.setdefault("quantile", "linear")
    _put_everywhere(config)
    for experiment in config["experiments"].values():
        experiment.setdefault("seeds", config["seeds"])


def _expand_epsilons(key: str, entry: dict) -> None:
    """A list of epsilons becomes one point each; a cycle stays one point."""
    if not isinstance(entry.get("epsilons"), list):
        return
    epsilons = entry.pop("epsilons")
    if "points" in entry:
        raise BadInput(
            f"{key}.epsilons: a list of epsilons makes points of its own; give either it or points"
        )
    width = len(str(len(epsilons)))
    entry["points"] = {
        f"e{place:0{width}d}": {"settings": {"epsilon": epsilon}}
        for place, epsilon in enumerate(epsilons, start=1)
    }


def _lay_points(key: str, entry: dict) -> None:
    """Every point holds its function and all its settings."""
    settings = entry.pop("settings", {})
    function = entry.pop("function", None)
    epsilons = entry.pop("epsilons", None)
    points = entry.get("points") or {"default": {}}
    for name, point in points.items():
        point["settings"] = settings | point.get("settings", {})
        point["function"] = point.get("function", function)
        if point["function"] is None:
            place = f"{key}.points.{name}" if "points" in entry else key
            raise BadInput(f"{place}: the key 'function' is missing; add it")
        if epsilons is not None:
            point.setdefault("epsilons", copy.deepcopy(epsilons))
        if isinstance(point.get("epsilons"), list):
            raise BadInput(f"{key}.points.{name}.epsilons: a point takes a cycle, not a list")
    entry["points"] = points


def _convert_unit(key: str, entry: dict) -> None:
    """Lengths in another unit become pixels, and every epsilon lies in [0,1]."""
    pixels = entry.get("epsilon_unit", {}).get("pixels", 1.0)
    for name, point in entry["points"].items():
        settings = point["settings"]
        for length in _LENGTHS:
            if isinstance(settings.get(length), int | float):
                settings[length] = settings[length] * pixels
        cycle = point.get("epsilons", {}).get("cycle")
        if cycle:
            point["epsilons"]["cycle"] = [epsilon * pixels for epsilon in cycle]
        for epsilon in [*(cycle or []), settings.get("epsilon", 0.0)]:
            if isinstance(epsilon, int | float) and not 0 <= epsilon <= 1:
                raise BadInput(
                    f"{key}.points.{name}.settings.epsilon: {epsilon:g} lies outside [0,1]; "
                    "give it in pixels of [0,1] or say its epsilon_unit"
                )


def _put_everywhere(config: dict) -> None:
    everywhere = config.setdefault("everywhere", {})
    for kind in ("purifiers", "detectors"):
        for name in everywhere.get(kind, []):
            _known(config, kind, name, f"everywhere.{kind}")
    for text in everywhere.get("attacks", []):
        check_threat(config, text, "everywhere.attacks")
    for suite in config["suites"].values():
        for key, name in (("attacks", "threats"), ("purifiers", "purifiers")):
            present = suite.setdefault(name, [])
            present += [item for item in everywhere.get(key, []) if item not in present]
    for experiment in config["experiments"].values():
        for part in ("tables", "figures"):
            for product in experiment.setdefault(part, {}).values():
                _list_crossings(product, everywhere.get("detectors", []))


def _list_crossings(product: dict, detectors: list[str]) -> None:
    """Every crossing becomes a list of mappings from key to list of names."""
    for stage in CROSSINGS:
        crossings = product.get(stage)
        if crossings is None:
            continue
        listed = crossings if isinstance(crossings, list) else [crossings]
        product[stage] = [
            {key: [v] if isinstance(v, str) else list(v) for key, v in crossing.items()}
            for crossing in listed
        ]
        if stage == "detection":
            for crossing in product[stage]:
                names = crossing.setdefault("detector", [])
                names += [name for name in detectors if name not in names]


# ---------------------------------------------------------------- entries


def _check_entries(config: dict) -> None:
    for name, entry in config["datasets"].items():
        key = f"datasets.{name}"
        _check_sides(key, entry, components.check("datasets", key, entry))
        _check_splits(f"{key}.splits", entry.setdefault("splits", {}))
    for kind in ("classifiers", "denoisers"):
        for name, entry in config[kind].items():
            components.check(kind, f"{kind}.{name}", entry)
            key = f"{kind}.{name}.training"
            asked = components.check("training", key, entry["training"])
            _check_looking(kind, key, entry["training"], asked)
            if kind == "classifiers":
                _check_lesson(key, entry, asked)
            if "stop" in entry["training"] and kind != "classifiers":
                raise BadInput(f"{key}.stop: a denoiser has no accuracy; take it out")
    for kind in ("attacks", "purifiers", "attributions", "detectors"):
        for name, entry in config[kind].items():
            for point_name, point in entry["points"].items():
                key = f"{kind}.{name}"
                if list(entry["points"]) != ["default"]:
                    key = f"{key}.points.{point_name}"
                engine = ("epsilon",) if "epsilons" in point else ()
                asked = components.check(kind, key, point, engine)
                _check_handed(kind, f"{kind}.{name}", entry, asked)
    for name, entry in config["attacks"].items():
        _check_ways(f"attacks.{name}", entry)
    for name, experiment in config["experiments"].items():
        for part in ("tables", "figures"):
            for product_name, product in experiment[part].items():
                key = f"experiments.{name}.{part}.{product_name}"
                _check_reads(key, product, components.check(part, key, product))


def _check_sides(key: str, entry: dict, asked: components.Signature) -> None:
    """Images with masks go through networks whose skips close at some sides only."""
    if asked.returns == DENSE:
        size = (asked.defaults | entry.get("settings", {}))["size"]
        check_sides(f"{key}.settings.size", *both(size))


def _check_looking(kind: str, key: str, training: dict, asked: components.Signature) -> None:
    """A step that looks at a network gets one; only denoisers are trained by such a step."""
    looks, function = "network" in asked.handed, training["function"]
    if looks and kind != "denoisers":
        raise BadInput(f"{key}.function: {function} trains denoisers only; choose another step")
    if looks and "network" not in training:
        raise BadInput(f"{key}: {function} looks at a trained classifier; add the key 'network'")
    if "network" in training and not looks:
        raise BadInput(f"{key}.network: {function} looks at no network; take it out")


def _check_lesson(key: str, entry: dict, asked: components.Signature) -> None:
    """A segmenter learns from masks, any other classifier from labels."""
    dense = _returns("classifiers", entry) == SEGMENTER
    if dense != ("masks" in asked.handed):
        learns = "masks" if dense else "labels"
        raise BadInput(
            f"{key}.function: {entry['function']} learns from {learns}, but "
            f"{entry['training']['function']} does not teach that; choose another step"
        )


def _check_reads(key: str, product: dict, asked: components.Signature) -> None:
    """A table or figure crosses just what its function reads."""
    given = [stage for stage in CROSSINGS if stage in product]
    for stage in given:
        if stage not in asked.handed:
            raise BadInput(
                f"{key}.{stage}: {product['function']} reads {' and '.join(asked.handed)}, not "
                f"{stage}; take it out"
            )
    for stage in asked.handed:
        if given and stage not in given:
            raise BadInput(f"{key}: {product['function']} reads {stage}; add the key {stage!r}")


def _check_splits(key: str, splits: dict) -> None:
    for name, split in splits.items():
        if name in BUILT_IN_SPLITS and "of" in split:
            raise BadInput(f"{key}.{name}.of: {name} is drawn from the source; take `of` out")
        if name == "held_out" and "size" not in split:
            raise BadInput(f"{key}.held_out: the key 'size' is missing; add it")
        if name not in BUILT_IN_SPLITS:
            if "of" not in split:
                raise BadInput(f"{key}.{name}: the key 'of' is missing; name what it is part of")
            _check_split_chain(key, name, splits)


def _check_split_chain(key: str, name: str, splits: dict) -> None:
    seen = [name]
    while seen[-1] not in BUILT_IN_SPLITS:
        parent = splits.get(seen[-1], {}).get("of")
        if parent not in splits and parent not in BUILT_IN_SPLITS:
            known = {*splits, *BUILT_IN_SPLITS}
            raise BadInput(
                f"{key}.{seen[-1]}.of: there is no split {parent!r}; "
                f"{components.suggest(str(parent), known)}"
            )
        if parent in seen:
            raise BadInput(f"{key}.{name}.of: {name} is drawn from itself; name another split")
        seen.append(parent)


def _check_handed(kind: str, key: str, entry: dict, asked: components.Signature) -> None:
    """The entry's own keys fit what its function asks for."""
    if kind == "attacks":
        labels = entry.get("labels")
        targeted = labels == "random_target" or isinstance(labels, dict)
        if targeted and "targeted" not in asked.handed:
            raise BadInput(f"{key}.labels: the function has no targeted form; take `labels` out")
        if "epsilon_unit" in entry and "epsilon" not in asked.settings:
            raise BadInput(f"{key}.epsilon_unit: the function has no epsilon; take it out")
    if kind == "purifiers":
        uses = _DENOISER & set(asked.handed)
        if uses and "denoiser" not in entry:
            raise BadInput(f"{key}: the function uses a denoiser; add the key 'denoiser'")
        if "denoiser" in entry and not uses:
            raise BadInput(f"{key}.denoiser: the function uses no denoiser; take it out")


def _check_ways(key: str, attack: dict) -> None:
    """How an attack goes through a purifier is said only where one of its functions does."""
    for word, goes in (("through", {"predict"}), ("draws", {"predict", "victim"})):
        if word in attack and not goes & _handed_to(attack):
            raise BadInput(f"{key}.{word}: the attack asks nothing through a purifier; take it out")


def looks_at_model(attack: dict) -> bool:
    """Whether an attack entry asks for any model (RANDOM and corruptions do not)."""
    return bool({"predict", "victim", "classifier", *_DENOISER} & _handed_to(attack))


def _handed_to(attack: dict) -> set[str]:
    """What the functions of an attack entry are handed."""
    handed: set[str] = set()
    for point in attack["points"].values():
        module, _, name = point["function"].partition(".")
        handed |= {*components.signatures("attacks", module)[name].handed}
    return handed


# ---------------------------------------------------------------- names


def _known(config: dict, kind: str, name: str, key: str) -> dict:
    """The entry of that name; BadInput naming `key` where it is not configured."""
    if name not in config[kind]:
        raise BadInput(
            f"{key}: {name!r} is not configured under {kind}; "
            f"{components.suggest(name, config[kind])}"
        )
    return config[kind][name]


def _check_names(config: dict) -> None:
    for kind in KINDS:
        for name, entry in config[kind].items():
            for place in entry.get("datasets", []):
                _known(config, "datasets", place, f"{kind}.{name}.datasets")
    for name, entry in config["attacks"].items():
        if "surrogate" in entry:
            _known(config, "classifiers", entry["surrogate"], f"attacks.{name}.surrogate")
    for name, entry in config["purifiers"].items():
        if "denoiser" in entry:
            _known(config, "denoisers", entry["denoiser"], f"purifiers.{name}.denoiser")
    for kind in ("classifiers", "denoisers"):
        for name, entry in config[kind].items():
            if "start" in entry["training"]:
                _check_start(config, kind, name)
            if entry["training"].get("stop", {}).get("measured_on") == "held_out":
                _check_held_out(config, f"{kind}.{name}", entry)
    for name, entry in config["denoisers"].items():
        _check_sources(config, f"denoisers.{name}.trained_on", entry["trained_on"])
        if "network" in entry["training"]:
            _check_trained(config, f"denoisers.{name}", entry, "network", "classifiers")
    for name, suite in config["suites"].items():
        for text in suite["threats"]:
            check_threat(config, text, f"suites.{name}.threats")
        for purifier in suite["purifiers"]:
            _known(config, "purifiers", purifier, f"suites.{name}.purifiers")
    for part in ("distances", "hidden"):
        for classifier in config[part]["taps"]:
            _known(config, "classifiers", classifier, f"{part}.taps")
    for classifier in config.get("examples", {}).get("maps", {}):
        _known(config, "classifiers", classifier, "examples.maps")
    for name in config.get("examples", {}).get("superpixels", []):
        _known(config, "attributions", name, "examples.superpixels")
    for name, experiment in config["experiments"].items():
        for part in ("tables", "figures"):
            for product_name, product in experiment[part].items():
                _check_product(config, f"experiments.{name}.{part}.{product_name}", product)


def _check_trained(config: dict, key: str, entry: dict, word: str, kind: str) -> dict:
    """The trained entry that a training names is there for every data set of its own."""
    name = entry["training"][word]
    named = _known(config, kind, name, f"{key}.training.{word}")
    for dataset in entry.get("datasets", config["datasets"]):
        if dataset not in named.get("datasets", [dataset]):
            raise BadInput(
                f"{key}.training.{word}: {name!r} is not for data set {dataset!r}; add it to "
                f"{kind}.{name}.datasets or say {key}.datasets without it"
            )
    return named


def _check_start(config: dict, kind: str, name: str) -> None:
    """A start is trained before, and its weights fit."""
    key, entry = f"{kind}.{name}", config[kind][name]
    start = entry["training"]["start"]
    if _architecture(_check_trained(config, key, entry, "start", kind)) != _architecture(entry):
        raise BadInput(
            f"{key}.training.start: {start!r} has another function or other settings, so that its "
            "weights do not fit; give both the same or take the start out"
        )
    path = [name]
    while start := config[kind].get(path[-1], {}).get("training", {}).get("start"):
        if start in path:
            raise BadInput(f"{key}.training.start: {name!r} starts from itself; name another entry")
        path.append(start)


def _architecture(entry: dict) -> tuple[str, dict]:
    """What decides the shapes of an entry's weights, and what the network makes of them."""
    return entry["function"], components.without_first_weights(entry)["settings"]


def _check_held_out(config: dict, key: str, entry: dict) -> None:
    for dataset in entry.get("datasets", config["datasets"]):
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
            attack = _known(config, "attacks", source["noise"], f"{key}.{place}.noise")
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
            f"{components.suggest(threat.attack, {*config['attacks'], CLEAN})}"
        )
    attack = config["attacks"][threat.attack]
    if threat.victim:
        _known(config, "classifiers", threat.victim, key)
    if threat.purifier:
        _known(config, "purifiers", threat.purifier, key)
    if threat.purifier is not None and not looks_at_model(attack):
        raise BadInput(
            f"{key}: {text!r}: {threat.attack} looks at no model and so knows no purifier; "
            "take the + and what follows away"
        )
    known_only = [f".{word}" for word in ("through", "draws") if word in attack]
    if _DENOISER & _handed_to(attack):
        known_only.append("")
    if threat.purifier is None and known_only:
        raise BadInput(
            f"attacks.{threat.attack}{known_only[0]}: holds only where the attack knows the "
            f"purifier, but {key} uses it as {text!r}; write {threat.attack}+"
        )
    if threat.purifier and (reason := unknowable(config, text, threat.purifier)):
        raise BadInput(f"{key}: {reason}")
    return threat


def _check_product(config: dict, key: str, product: dict) -> None:
    if "on_demand" in product and ".figures." in key:
        raise BadInput(f"{key}.on_demand: figures are drawn in one job; take it out")
    stages = [stage for stage in CROSSINGS if stage in product]
    if not stages:
        raise BadInput(f"{key}: is made from nothing; add one of {', '.join(CROSSINGS)}")
    for stage in stages:
        for crossing in product[stage]:
            _check_crossing(config, f"{key}.{stage}", stage, crossing)


def _check_crossing(config: dict, key: str, stage: str, crossing: dict) -> None:
    wanted = CROSSINGS[stage]
    for name in crossing:
        if name not in (*wanted, "dataset"):
            raise BadInput(
                f"{key}.{name}: does not belong to {stage}; "
                f"{components.suggest(name, (*wanted, 'dataset'))}"
            )
    for name in wanted:
        if not crossing.get(name) and (name, stage) != ("purifier", "predictions"):
            raise BadInput(f"{key}: the key {name!r} is missing; add it")
    for name, kind in KIND_OF.items():
        for item in crossing.get(name, []):
            _known(config, kind, item, f"{key}.{name}")
    for text in crossing.get("threat", []):
        threat = check_threat(config, text, f"{key}.threat")
        if threat.purifier == "" and "purifier" not in wanted:
            raise BadInput(f"{key}.threat: {text!r} names no purifier; write it after the +")
        if stage == "limits":
            _check_limited(config, f"{key}.threat", text)
    for dataset in crossing["dataset"]:
        for classifier in crossing.get("classifier", []):
            _check_segments(config, f"{key}.classifier", dataset, classifier)
        splits = {*BUILT_IN_SPLITS, *config["datasets"][dataset]["splits"]}
        for split in crossing.get("split", []):
            if split not in splits:
                raise BadInput(
                    f"{key}.split: data set {dataset!r} has no split {split!r}; "
                    f"{components.suggest(split, splits)}"
                )
    for classifier in crossing["classifier"] if stage == "distances" else []:
        if classifier not in config["distances"]["taps"]:
            raise BadInput(
                f"distances.taps: classifier {classifier!r} has no taps, but {key} asks for its "
                "layers; name the modules to observe"
            )


def _check_segments(config: dict, key: str, dataset: str, classifier: str) -> None:
    """A segmenter meets images with masks, any other classifier images with labels."""
    entry = config["classifiers"][classifier]
    if dataset not in entry.get("datasets", [dataset]):
        return
    dense = _returns("datasets", config["datasets"][dataset]) == DENSE
    if dense != (_returns("classifiers", entry) == SEGMENTER):
        has, needs = ("masks", "a segmenter") if dense else ("labels", "another classifier")
        raise BadInput(
            f"{key}: {classifier!r} ({entry['function']}) does not fit data set {dataset!r}, whose "
            f"images have {has}; take {needs}"
        )


def _returns(kind: str, entry: dict) -> str:
    """The annotation of what an entry's function returns."""
    module, _, name = entry["function"].partition(".")
    return components.signatures(kind, module)[name].returns


def _check_limited(config: dict, key: str, text: str) -> None:
    """A threat whose limit is looked for: an attack with a stop rule, on a victim of its own."""
    threat = threats.parse(text)
    if threat.is_clean or "watch" not in _handed_to(config["attacks"][threat.attack]):
        raise BadInput(f"{key}: {text!r} has no stop rule; take an attack that has one")
    if threat.victim is None:
        raise BadInput(f"{key}: {text!r} names no victim; write {threat.attack}@classifier")


# ---------------------------------------------------------------- who knows whom


def _check_knowledge(config: dict) -> None:
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
    looks = attack.get("through") == "denoiser" or _DENOISER & _handed_to(attack)
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
    if start := entry["training"].get("start"):
        reasons[start] = (
            f"training.start: {start!r} is trained on what knows {name!r}; start from another"
        )
    for source in entry["trained_on"]:
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


def uses_data_root(config: dict, dataset: str) -> bool:
    """Whether a data set is read from the user's data root."""
    module, _, name = config["datasets"][dataset]["function"].partition(".")
    return "root" in components.signatures("datasets", module)[name].handed


def check_data_root(config: dict, datasets) -> None:
    """Refuse a start whose data sets need a data root that is not there."""
    needed = sorted(name for name in datasets if uses_data_root(config, name))
    if not needed:
        return
    root = config["data_root"]
    if root is None:
        raise BadInput(
            f"data_root: not set, but data set {needed[0]!r} is read from it; "
            "give your image folder with `--config data_root=FOLDER`"
        )
    if not Path(root).is_dir():
        raise BadInput(
            f"data_root: {root!r} is not a folder, but data set {needed[0]!r} is read from it; "
            "correct the path"
        )
