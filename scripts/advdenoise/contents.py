"""Whether the rows of a result file are all there, each once, and can be what they say."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.advdenoise import store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# What a file has rows for, beside images: every image has one for each combination.
_PLACES = (
    "threat",
    "attack_point",
    "purifier",
    "purifier_point",
    "draw",
    "layer",
    "attribution_point",
    "steps",
)
# Columns that hold a class, and those of finite values.
_CLASSES = ("label", "prediction")
_FINITE = ("score", "l2", "ne_d", "cos_d", "mse", "mse_before", "linf")
_NO_CLASS = -1  # what is predicted where outputs are not finite


def ids_digest(ids: "np.ndarray") -> str:
    """The number of some images and a digest of which they are, whatever their order."""
    import numpy as np

    ordered = np.sort(np.asarray(ids, np.int64))
    return f"{len(ordered)}-{hashlib.sha256(ordered.tobytes()).hexdigest()[:12]}"


def check_rows(path: Path, table: "pa.Table", settings: dict) -> None:
    """Raises DamagedFile where rows of a result file are missing, double or impossible.

    `settings` are those that the file carries: `ids`, as `ids_digest` tells the images, and
    `classes`, where its job wrote them. Of detectors' scores images are a part, and of other files
    every image has one row in each place.
    """
    if reason := _impossible(table, settings) or _incomplete(table, settings):
        raise store.damaged(path, reason)


def _impossible(table: "pa.Table", settings: dict) -> str | None:
    import pyarrow.compute as pc

    for name in {*_FINITE} & {*table.column_names}:
        column = table[name]
        if column.null_count or pc.all(pc.is_finite(column)).as_py() not in (True, None):
            return f"a value of {name} is not finite"
    for name in {*_CLASSES} & {*table.column_names} if len(table) else ():
        low, high = pc.min_max(table[name]).as_py().values()
        least = _NO_CLASS if name == "prediction" else 0
        if table[name].null_count or low < least or high >= settings.get("classes", high + 1):
            return f"a {name} is none of the classes"
    return None


def _incomplete(table: "pa.Table", settings: dict) -> str | None:
    if "id" not in table.column_names or "score" in table.column_names:
        return None
    if not len(table):
        return "it holds no rows"
    places = [name for name in _PLACES if name in table.column_names]
    counts = table.group_by(places).aggregate([("id", "count"), ("id", "count_distinct")])
    rows, images = (counts[f"id_{kind}"].to_numpy() for kind in ("count", "count_distinct"))
    if (rows != images).any():
        return "it holds an image twice"
    ids = table["id"].unique().to_numpy()
    if (rows != len(ids)).any() or ids_digest(ids) != settings.get("ids", ids_digest(ids)):
        return f"it lacks rows: not every place has all of the {len(ids)} images"
    return _missing_place(table, settings)


def _missing_place(table: "pa.Table", settings: dict) -> str | None:
    """The threat or point of the settings that has no rows."""
    own = settings.get("attack", {}).get("points") or {}
    wanted = {
        "threat": settings.get("threats", []) if "meetings" not in settings else [],
        "purifier_point": (settings.get("purifier") or {}).get("points", []),
        "attribution_point": (settings.get("attribution") or {}).get("points", []),
        "attack_point": own,
    }
    for name, values in wanted.items():
        if name in table.column_names:
            missing = {*values} - {*table[name].unique().to_pylist()}
            if missing:
                return f"it lacks rows of {name} {min(missing)}"
    return None
