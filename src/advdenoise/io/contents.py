"""Checks of result files: all rows are present, each once, with possible values."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from advdenoise.io.digests import ids_digest
from advdenoise.io.files import damage_error

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa

# Columns that identify a row beside its image: each image has a row per combination of them.
_KEYS = (
    *("threat", "attack_point", "purifier", "purifier_point"),
    *("draw", "layer", "attribution_point"),
)
# Columns of classes, and columns of finite values.
_CLASSES = ("label", "prediction")
_FINITE = ("score", "l2", "ne_d", "cos_d", "mse", "mse_before", "linf")
_NO_CLASS = -1  # the prediction from outputs that are not finite


def check_rows(path: Path, table: "pa.Table", settings: dict) -> None:
    """Raises DamagedFile if rows of a result file are missing, doubled or impossible.

    `settings` are the file's own: `classes`, and `ids`, the `ids_digest` of the images, if each has
    a row per combination of the other columns.
    """
    if reason := _invalid_value(table, settings) or _missing_row(table, settings):
        raise damage_error(path, reason)


def _invalid_value(table: "pa.Table", settings: dict) -> str | None:
    import pyarrow.compute as pc

    for name in {*_FINITE} & {*table.column_names}:
        column = table[name]
        missing = name == "score" and column.null_count  # other values may be unknown
        if missing or pc.all(pc.is_finite(column)).as_py() is False:
            return f"a value of {name} is not finite"
    for name in {*_CLASSES} & {*table.column_names} if len(table) else ():
        low, high = pc.min_max(table[name]).as_py().values()
        least = _NO_CLASS if name == "prediction" else 0
        if _unknown(table, name) or low < least or high >= settings.get("classes", high + 1):
            return f"a {name} is not one of the classes"
    return None


def _unknown(table: "pa.Table", name: str) -> bool:
    """Whether a class is missing; the prediction is of an image that an attack left alone."""
    import pyarrow.compute as pc

    missing = table[name].null_count
    if not missing or name != "prediction" or "skipped" not in table.column_names:
        return bool(missing)
    skipped = pc.fill_null(table["skipped"], False)
    return bool(pc.any(pc.xor(skipped, pc.is_null(table[name]))).as_py())


def _missing_row(table: "pa.Table", settings: dict) -> str | None:
    if "ids" not in settings:
        return None
    if not len(table):
        return "it holds no rows"
    keys = [name for name in _KEYS if name in table.column_names]
    counts = table.group_by(keys).aggregate([("id", "count"), ("id", "count_distinct")])
    rows, images = (counts[f"id_{kind}"].to_numpy() for kind in ("count", "count_distinct"))
    if (rows != images).any():
        return "it holds an image twice"
    ids = table["id"].unique().to_numpy()
    if (rows != len(ids)).any() or ids_digest(ids) != settings["ids"]:
        return f"it lacks rows: not every {', '.join(keys)} has all of the {len(ids)} images"
    return _missing_key(table, settings)


def _missing_key(table: "pa.Table", settings: dict) -> str | None:
    """The threat, point or layer of the settings that has no rows."""
    purifier, attribution = settings.get("purifier") or {}, settings.get("attribution") or {}
    expected = {
        ("purifier_point",): purifier.get("points", []),
        ("attribution_point",): attribution.get("points", []),
        ("attack_point",): settings.get("attack", {}).get("points") or {},
        ("layer",): settings.get("taps", []),
        ("threat",): [] if "pairs" in settings else settings.get("threats", []),
        ("threat", "purifier"): settings.get("pairs", []),
    }
    for columns, values in expected.items():
        if {*columns} <= {*table.column_names}:
            rows = table.group_by(columns).aggregate([]).to_pydict()
            present = {*zip(*(rows[name] for name in columns), strict=True)}
            wanted = {(v,) if isinstance(v, str) else tuple(v) for v in values}
            if missing := wanted - present:
                return f"it lacks rows of {' and '.join(columns)} {', '.join(min(missing))}"
    return _missing_combination(table)


def _missing_combination(table: "pa.Table") -> str | None:
    """The kind of layer or point of which a threat, purifier or point has fewer than another."""
    outer = [name for name in _KEYS[:4] if name in table.column_names]
    inner = [name for name in ("layer", "attribution_point") if name in table.column_names]
    for name in inner:
        counts = table.group_by(outer).aggregate([(name, "count_distinct")])
        if len(counts[f"{name}_count_distinct"].unique()) > 1:
            return f"it lacks rows: not every {', '.join(outer)} has each {name}"
    return None


def check_lengths(path: Path, file: "h5py.File") -> None:
    """Raises DamagedFile if an array of an HDF5 file has not one row per entry of `ids`."""
    count, others = len(file["ids"]), []

    def visit(name, item):
        if hasattr(item, "shape") and len(item) != count:
            others.append(f"{len(item)} rows of {name} for {count} images")

    file.visititems(visit)
    if others:
        raise damage_error(path, others[0])


def check_value(path: Path, value: object) -> dict:
    """Return the value of a JSON result file.

    Raises:
        DamagedFile: it is not a dictionary, or a calibration without finite mean and deviation.
    """
    if not isinstance(value, dict):
        raise damage_error(path, "it is not a dictionary")
    for name in ("mean", "deviation") if path.name.endswith(".calibration.json") else ():
        number = value.get(name)
        if not isinstance(number, float | int) or not math.isfinite(number):
            raise damage_error(path, f"its {name} is not a finite number")
    return value
