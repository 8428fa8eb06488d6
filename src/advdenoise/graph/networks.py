"""Where a network's weights come from, and what it takes and gives where that is not the usual."""

from advdenoise.errors import BadInput
from advdenoise.graph.kinds import GENERATOR, conversion, returned
from advdenoise.graph.training import check_training


def check_network(kind: str, name: str, entry: dict) -> None:
    """Refuse an entry whose weights come from nowhere or from two places."""
    key = f"{kind}.{name}"
    if "weights" in entry:
        _check_weights(key, entry)
    elif "training" not in entry:
        raise BadInput(
            f"{key}: the key 'training' is missing; add it, or `weights` with the file of a "
            "trained network"
        )
    else:
        if kind == "denoisers" and "trained_on" not in entry:
            raise BadInput(f"{key}: the key 'trained_on' is missing; add it")
        check_training(kind, name, entry)
    _check_conversion(kind, key, entry)


def _check_weights(key: str, entry: dict) -> None:
    for other in ("training", "trained_on"):
        if other in entry:
            raise BadInput(
                f"{key}.{other}: stands beside `weights`, with which nothing is trained; take "
                "one of them out"
            )
    if entry.get("settings", {}).get("weights"):
        raise BadInput(f"{key}.settings.weights: stands beside {key}.weights; take one of them out")


def _check_conversion(kind: str, key: str, entry: dict) -> None:
    keys = [*conversion(entry)]
    if keys and kind == "denoisers" and returned(kind, entry) == GENERATOR:
        raise BadInput(
            f"{key}.{keys[0]}: {entry['function']} is a generator, which takes no images; take it "
            "out"
        )
    for name in ("mean", "std"):
        values, channels = entry.get(name), entry.get("channels")
        if isinstance(values, list) and channels and len(values) not in (1, channels):
            raise BadInput(
                f"{key}.{name}: {len(values)} values for {channels} channels; give one number or "
                f"{channels}"
            )
