"""Which settings each optimiser has. No torch: the configuration is checked with it."""

from advdenoise.errors import BadInput

_COMMON = ("lr", "decay", "weight_decay", "weight_decay_on")
_OPTIMISERS = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("betas", "eps"),
    "rmsprop": ("alpha", "eps"),
}


def check_optimiser(key: str, settings: dict) -> None:
    """Raises BadInput, which begins with `key`, for an unknown optimiser or another's setting."""
    name = settings["name"]
    if name not in _OPTIMISERS:
        raise BadInput(f"{key}.name: optimiser {name!r} is unknown; take {', '.join(_OPTIMISERS)}")
    knows = _COMMON + _OPTIMISERS[name]
    for setting in settings:
        if setting not in ("name", *knows):
            raise BadInput(
                f"{key}.{setting}: optimiser {name} has no such setting; it knows "
                f"{', '.join(knows)}"
            )
