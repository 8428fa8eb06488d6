"""Whether the rows of a result file are all there, each once, and can be what they say."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from advdenoise.io.digests import ids_digest
from advdenoise.io.files import damage_error

if TYPE_CHECKING:
    import h5py
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
)
# Columns that hold a class, and those of finite values.
_CLASSES = ("label", "prediction")
_FINITE = ("score", "l2", "ne_d", "cos_d", "mse", "mse_before", "linf")
_NO_CLASS = -1  # what is predicted where outputs are not finite


def check_rows(path: Path, table: "pa.Table", settings: dict) -> None:
    """Raises DamagedFile where rows of a result file are missing, double or impossible.

    `settings` are those that the file carries: `classes`, and `ids` as `ids_digest` tells the
    images, where each of them has one row in each place.
    """
    if reason := _impossible(table, settings) or _incomplete(table, settings):
        raise damage_error(path, reason)


def _impossible(table: "pa.Table", settings: dict) -> str | None:
    import pyarrow.compute as pc

    for name in {*_FINITE} & {*table.column_names}:
        column = table[name]
        unknown = name == "score" and column.null_count  # other values may be unknown
        if unknown or pc.all(pc.is_finite(column)).as_py() is False:
            return f"a value of {name} is not finite"
    for name in {*_CLASSES} & {*table.column_names} if len(table) else ():
        low, high = pc.min_max(table[name]).as_py().values()
        least = _NO_CLASS if name == "prediction" else 0
        if table[name].null_count or low < least or high >= settings.get("classes", high + 1):
            return f"a {name} is none of the classes"
    return None


def _incomplete(table: "pa.Table", settings: dict) -> str | None:
    if "ids" not in settings:
        return None
    if not len(table):
        return "it holds no rows"
    places = [name for name in _PLACES if name in table.column_names]
    counts = table.group_by(places).aggregate([("id", "count"), ("id", "count_distinct")])
    rows, images = (counts[f"id_{kind}"].to_numpy() for kind in ("count", "count_distinct"))
    if (rows != images).any():
        return "it holds an image twice"
    ids = table["id"].unique().to_numpy()
    if (rows != len(ids)).any() or ids_digest(ids) != settings["ids"]:
        return f"it lacks rows: not every place has all of the {len(ids)} images"
    return _missing_place(table, settings)


def _missing_place(table: "pa.Table", settings: dict) -> str | None:
    """What of the settings has no rows: a threat, a point or a layer."""
    wanted = {
        "purifier_point": (settings.get("purifier") or {}).get("points", []),
        "attribution_point": (settings.get("attribution") or {}).get("points", []),
        "attack_point": settings.get("attack", {}).get("points") or {},
        "layer": settings.get("taps", []),
    }
    if "pairs" in settings:
        wanted |= {("threat", "purifier"): [tuple(pair) for pair in settings["pairs"]]}
    else:
        wanted |= {"threat": settings.get("threats", [])}
    for names, values in wanted.items():
        columns = [names] if isinstance(names, str) else [*names]
        if {*columns} <= {*table.column_names}:
            rows = table.group_by(columns).aggregate([]).to_pydict()
            present = {*zip(*(rows[name] for name in columns), strict=True)}
            wanted_rows = {(v,) if isinstance(names, str) else v for v in values}
            if missing := wanted_rows - present:
                return f"it lacks rows of {' and '.join(columns)} {', '.join(min(missing))}"
    return _missing_combination(table)


def _missing_combination(table: "pa.Table") -> str | None:
    """Whether a threat, purifier or point has fewer layers or points than another."""
    outer = [name for name in _PLACES[:4] if name in table.column_names]
    inner = [name for name in ("layer", "attribution_point") if name in table.column_names]
    for name in inner:
        counts = table.group_by(outer).aggregate([(name, "count_distinct")])
        if len(counts[f"{name}_count_distinct"].unique()) > 1:
            return f"it lacks rows: not every place has each {name}"
    return None


def check_lengths(path: Path, file: "h5py.File") -> None:
    """Raises DamagedFile where an array of an HDF5 file has not one row for each of its `ids`."""
    count, others = len(file["ids"]), []

    def look(name, item):
        if hasattr(item, "shape") and len(item) != count:
            others.append(f"{len(item)} rows of {name} for {count} images")

    file.visititems(look)
    if others:
        raise damage_error(path, others[0])


def check_value(path: Path, value: object) -> dict:
    """The value of a JSON result file; DamagedFile where it is no dictionary.

    So for a calibration without a finite mean and deviation.
    """
    if not isinstance(value, dict):
        raise damage_error(path, "it holds no names and values")
    for name in ("mean", "deviation") if path.name.endswith(".calibration.json") else ():
        number = value.get(name)
        if not isinstance(number, float | int) or not math.isfinite(number):
            raise damage_error(path, f"its {name} is no finite number")
    return value
