"""The section `datasets`: sources of images and their splits."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.components import Signature
from advdenoise.graph.sections.common import Raw, Settings, returned
from advdenoise.ops.files import why_not_listable
from advdenoise.sides import both, check_sides

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

BUILT_IN_SPLITS = ("train", "held_out", "test")
_DENSE = "DenseSource"  # what functions return whose images have masks


class Split(TypedDict, total=False):
    """A part of another split, or one of the built-in splits."""

    of: str
    size: int


class Dataset(TypedDict):
    """A data set; `batch` replaces the batch of the whole configuration."""

    function: str
    settings: NotRequired[Settings]
    batch: NotRequired[int]
    splits: dict[str, Split]


def complete(config: Raw) -> None:
    """Give every data set its splits."""
    for entry in config["datasets"].values():
        entry.setdefault("splits", {})


def check(config: "Configuration") -> None:
    """Check each data set by itself. Raises BadInput."""
    for name, entry in config["datasets"].items():
        key = f"datasets.{name}"
        choices.refuse(key, entry)
        _check_sides(key, entry, components.check("datasets", key, entry))
        _check_splits(f"{key}.splits", entry["splits"])


def has_masks(dataset: Dataset) -> bool:
    """Whether the images of a data set have masks, and not labels."""
    return returned("datasets", dataset) == _DENSE


def split_names(dataset: Dataset) -> set[str]:
    """The names of a data set's splits."""
    return {*BUILT_IN_SPLITS, *dataset["splits"]}


def _check_sides(key: str, entry: Dataset, signature: Signature) -> None:
    """Images with masks go through networks whose skips close at some sides only."""
    if signature.returns == _DENSE:
        size = (signature.defaults | entry.get("settings", {}))["size"]
        check_sides(f"{key}.settings.size", *both(size))


def _check_splits(key: str, splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        if name in BUILT_IN_SPLITS and "of" in split:
            raise BadInput(f"{key}.{name}.of: {name} is drawn from the source; take `of` out")
        if name == "held_out" and "size" not in split:
            raise BadInput(f"{key}.held_out: the key 'size' is missing; add it")
        if name not in BUILT_IN_SPLITS:
            if "of" not in split:
                raise BadInput(f"{key}.{name}: the key 'of' is missing; name what it is part of")
            _check_origins(key, name, splits)


def _check_origins(key: str, name: str, splits: Mapping[str, Split]) -> None:
    """A split is drawn from larger ones, the last of which is built in."""
    chain = [name]
    while (last := chain[-1]) not in BUILT_IN_SPLITS:
        split = splits.get(last, {})
        parent = split.get("of")
        if parent is None or (parent not in splits and parent not in BUILT_IN_SPLITS):
            raise BadInput(
                f"{key}.{last}.of: there is no split {parent!r}; "
                f"{suggest(str(parent), {*splits, *BUILT_IN_SPLITS})}"
            )
        if parent in chain:
            raise BadInput(f"{key}.{name}.of: {name} is drawn from itself; name another split")
        size, available = split.get("size"), splits.get(parent, {}).get("size")
        if size is not None and available is not None and size > available:
            raise BadInput(
                f"{key}.{last}.size: must be at most {available}, what {parent!r} has, got {size}"
            )
        chain.append(parent)


# ---------------------------------------------------------------- the data root


def uses_data_root(config: "Configuration", name: str) -> bool:
    """Whether a data set is read from the user's data root."""
    return "root" in components.signature_of("datasets", config["datasets"][name]).injected


def check_data_root(config: "Configuration", names: Iterable[str]) -> None:
    """Raise BadInput where one of the named data sets is read from a folder that is not there."""
    reading = sorted(name for name in names if uses_data_root(config, name))
    if not reading:
        return
    root = config["data_root"]
    if root is None:
        raise BadInput(
            f"data_root: not set, but data set {reading[0]!r} is read from it; "
            "give your image folder with `--config data_root=FOLDER`"
        )
    if reason := why_not_listable(Path(os.path.expanduser(root))):
        raise BadInput(
            f"data_root: {root!r} {reason}, but data set {reading[0]!r} is read from it; give the "
            "folder that holds your images"
        )
