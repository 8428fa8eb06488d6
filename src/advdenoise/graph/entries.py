"""Each entry by itself: its function, what that is handed, its training, its splits."""

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.kinds import (
    BUILT_IN_SPLITS,
    DENSE,
    OF_DENOISERS,
    injected_names,
    point_key,
)
from advdenoise.graph.networks import check_network
from advdenoise.graph.sources import existing, locate_object
from advdenoise.graph.stages import crossings
from advdenoise.ops.files import why_not_listable
from advdenoise.sides import both, check_sides


def check_entries(config: dict) -> None:
    choices.check(config)
    for name, entry in config["datasets"].items():
        key = f"datasets.{name}"
        _check_sides(key, entry, components.check("datasets", key, entry))
        _check_splits(f"{key}.splits", entry.setdefault("splits", {}))
    for kind in ("classifiers", "denoisers"):
        for name, entry in config[kind].items():
            components.check(kind, f"{kind}.{name}", entry)
            check_network(kind, name, entry)
    for kind in ("attacks", "purifiers", "attributions", "detectors"):
        for name, entry in config[kind].items():
            for point_name, point in entry["points"].items():
                key = point_key(f"{kind}.{name}", entry, point_name)
                engine = ("epsilon",) if "epsilons" in point else ()
                for variant in choices.variants(point):
                    signature = components.check(kind, key, variant, engine)
                _check_handed(kind, f"{kind}.{name}", entry, signature)
                if kind == "attacks":
                    _check_step(f"{key}.settings", point["settings"], signature)
    for name, entry in config["attacks"].items():
        _check_ways(f"attacks.{name}", entry)
    for name, entry in config["purifiers"].items():
        _check_draws(f"purifiers.{name}", entry)
    for name, experiment in config["experiments"].items():
        _check_experiment(f"experiments.{name}", experiment)
        for part in ("tables", "figures"):
            for product_name, product in experiment[part].items():
                key = f"experiments.{name}.{part}.{product_name}"
                _check_reads(key, product, components.check(part, key, product))


def _check_experiment(key: str, experiment: dict) -> None:
    """Printed names and published numbers are where an experiment says that they are."""
    if "labels" in experiment:
        locate_object(f"{key}.labels", experiment["labels"])
    if "published" in experiment:
        folder = experiment["published"]
        if reason := why_not_listable(existing(folder)):
            raise BadInput(f"{key}.published: {folder} {reason}; name a folder of CSV files")


def _check_sides(key: str, entry: dict, signature: components.Signature) -> None:
    """Images with masks go through networks whose skips close at some sides only."""
    if signature.returns == DENSE:
        size = (signature.defaults | entry.get("settings", {}))["size"]
        check_sides(f"{key}.settings.size", *both(size))


def _check_reads(key: str, product: dict, signature: components.Signature) -> None:
    """A table or figure crosses just what its function reads."""
    crossed = [stage for stage in crossings() if stage in product]
    reads = [name for name in signature.injected if name in crossings()]
    for stage in crossed:
        if stage not in reads:
            raise BadInput(
                f"{key}.{stage}: {product['function']} reads {' and '.join(reads)}, not "
                f"{stage}; take it out"
            )
    for stage in signature.needed:
        if crossed and stage not in crossed:
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
                f"{key}.{seen[-1]}.of: there is no split {parent!r}; {suggest(str(parent), known)}"
            )
        if parent in seen:
            raise BadInput(f"{key}.{name}.of: {name} is drawn from itself; name another split")
        of, size = (splits.get(n, {}).get("size") for n in (parent, seen[-1]))
        if of is not None and size is not None and size > of:
            raise BadInput(
                f"{key}.{seen[-1]}.size: must be at most {of}, what {parent!r} has, but is {size}"
            )
        seen.append(parent)


def _check_handed(kind: str, key: str, entry: dict, signature: components.Signature) -> None:
    """The entry's own keys fit what its function asks for."""
    if kind == "attacks":
        labels = entry.get("labels")
        targeted = labels == "random_target" or isinstance(labels, dict)
        if targeted and "targeted" not in signature.injected:
            raise BadInput(f"{key}.labels: the function has no targeted form; take `labels` out")
        if "epsilon_unit" in entry and "epsilon" not in signature.settings:
            raise BadInput(f"{key}.epsilon_unit: the function has no epsilon; take it out")
    if kind == "purifiers":
        uses = OF_DENOISERS & set(signature.injected)
        if uses and "denoiser" not in entry:
            raise BadInput(f"{key}: the function uses a denoiser; add the key 'denoiser'")
        if "denoiser" in entry and not uses:
            raise BadInput(f"{key}.denoiser: the function uses no denoiser; take it out")


def _check_step(key: str, settings: dict, signature: components.Signature) -> None:
    """A step's length is given in one of two ways."""
    ways = ("alpha", "alpha_per_epsilon")
    lengths = [way for way in ways if settings.get(way) is not None]
    if {*ways} <= {*signature.settings} and len(lengths) != 1:
        raise BadInput(
            f"{key}: give either alpha (a step in pixels of [0,1]) or alpha_per_epsilon (a step as "
            f"a share of epsilon), not {'both' if lengths else 'none'}"
        )


def _check_draws(key: str, purifier: dict) -> None:
    """What draws no random numbers is not judged several times."""
    functions = [point["function"] for point in purifier["points"].values()]
    signatures = [components.signature("purifiers", key, function) for function in functions]
    draw = any("noise" in signature.injected for signature in signatures)
    if "draws" in purifier and not draw:
        raise BadInput(
            f"{key}.draws: {functions[0]} does not list `noise` and so gives the same at every "
            "draw; take `draws` out, or draw from `noise` in the function"
        )


def _check_ways(key: str, attack: dict) -> None:
    """How an attack goes through a purifier is said only where one of its functions does."""
    for word, goes in (("through", {"predict"}), ("draws", {"predict", "victim"})):
        if word in attack and not goes & injected_names(attack):
            raise BadInput(f"{key}.{word}: the attack asks nothing through a purifier; take it out")
