"""The settings of each optimiser. Does not import torch, since it checks configurations."""

from collections.abc import Mapping
from typing import Any

from advdenoise.errors import BadInput

_COMMON = ("lr", "decay", "weight_decay", "weight_decay_on")
_OPTIMISERS = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("betas", "eps"),
    "rmsprop": ("alpha", "eps"),
}


def check_optimiser(key: str, settings: Mapping[str, Any]) -> None:
    """Raise BadInput, naming `key`, for an unknown optimiser or a setting that it does not have."""
    name = settings["name"]
    if name not in _OPTIMISERS:
        raise BadInput(f"{key}.name: must be one of {', '.join(_OPTIMISERS)}, got {name!r}")
    known = _COMMON + _OPTIMISERS[name]
    for setting in settings:
        if setting not in ("name", *known):
            raise BadInput(
                f"{key}.{setting}: optimiser {name} has no such setting; it has {', '.join(known)}"
            )
