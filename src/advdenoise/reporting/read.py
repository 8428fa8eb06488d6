"""Result files as data frames, with the names and entries that they were made with."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advdenoise.io.contents import check_rows, check_value
from advdenoise.io.json_files import read_json
from advdenoise.io.parquet import column_names, read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import IQR, PREDICTIONS, SEGMENTATION, STAGES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NAMES = ("seed", "dataset", "split", "suite", "threat", "classes")
# A row's hidden values are thousands, and no table uses them.
_COLUMNS = {"iqr": [*IQR.names, "probabilities"]}
_ENTRIES = ("classifier", "purifier", "denoiser", "detector", "attribution")


class Results:
    """The files of one stage: rows of all of them, and every entry that they name.

    `chosen` has the values of purifiers' settings that a job chose: by data set, purifier, point
    and setting those of each replicate.
    """

    def __init__(
        self,
        frame: "pd.DataFrame",
        entries: dict[str, dict],
        paths: list[Path],
        chosen: dict[tuple[str, str, str, str], dict[int, Any]] | None = None,
        settings: Sequence[dict] = (),
    ):
        self.frame = frame
        self.paths = paths
        self.chosen = chosen or {}
        self.settings = settings  # those of each file
        self._entries = entries

    @property
    def is_dense(self) -> bool:
        """Whether all rows are predictions of a class for each pixel."""
        return "confusion" in self.frame and bool(self.frame["confusion"].notna().all())

    def of(self, frame: "pd.DataFrame") -> "Results":
        """Some of the rows, with the same entries."""
        return Results(frame, self._entries, self.paths, self.chosen, self.settings)

    def entry(self, kind: str, name: str) -> dict:
        """An entry by the singular of its kind and its name."""
        return self._entries[kind][name]

    def attack(self, threat: str) -> dict:
        """The entry of a threat's attack."""
        return self._entries["attack"][threat.partition("@")[0]]

    def knows_draws(self, threat: str) -> bool:
        """Whether a threat's attack had the random numbers of the evaluation's first draw."""
        entries = self._entries.get("attack", {})
        return entries.get(threat.partition("@")[0], {}).get("knows_draws", False)

    def purifier_point(self, about: dict) -> dict:
        """The function and the settings of the purifier in a group's names."""
        return self.entry("purifier", about["purifier"])["points"][about["purifier_point"]]

    def distinct(self, names: Sequence[str]) -> list[dict]:
        """The different values of some columns, in the order of the rows."""
        rows = self.frame[[*names]].drop_duplicates().itertuples(index=False, name=None)
        return [dict(zip(names, values, strict=True)) for values in rows]


def iter_groups(
    frame: "pd.DataFrame", names: Sequence[str]
) -> Iterator[tuple[dict, "pd.DataFrame"]]:
    """Groups of rows that are equal in some columns: their values by name, and the rows."""
    for values, rows in frame.groupby([*names], sort=False, observed=True, dropna=False):
        yield dict(zip(names, values, strict=True)), rows


def read_stage(stage: str, paths: list[Path]) -> Results | list[Path]:
    """The result files of a stage as `read` gives them; files of no rows as paths."""
    if stage not in STAGES:
        return paths
    return read(paths, STAGES[stage], _COLUMNS.get(stage))


def read(
    paths: list[Path],
    schema: "pa.Schema | None" = None,
    columns: list[str] | None = None,
    fitted_on: tuple[str, str] | None = None,
) -> Results:
    """Read result files, all with the columns of `schema`; each row gets its file's names.

    These are the seed, the data set and the entries; `job_seconds` is what its numbers took,
    `values` how long a row's feature vector is.

    `columns` are read, by default all. Of detectors' scores those are read whose detector was
    fitted on the row's own attack, or instead on `fitted_on`, a threat and an attack point.
    Predictions may be of masks, with the columns of `SEGMENTATION` and `confusion`, an array of
    classes * classes. Raises DamagedFile as `read_table`.
    """
    import pandas as pd

    has_fits = schema is not None and "fitted_threat" in schema.names
    keep = partial(_is_fitted_on, fitted_on) if has_fits else None
    frames, all_settings = [], []
    chosen: dict[tuple[str, str, str, str], dict] = {}
    entries: dict[str, dict] = {kind: {} for kind in (*_ENTRIES, "attack", "network")}
    for path in paths:
        provenance = read_provenance(path)
        settings = provenance["settings"]
        all_settings.append(settings)
        table = read_table(path, _schema_of(path, schema), columns, keep)
        check_rows(path, table, settings)
        frame = _frame(table)
        frame["job_seconds"] = settings.get("seconds", math.nan)
        for kind in _ENTRIES:
            entry = settings.get(kind)
            if entry:
                entries[kind][entry["name"]] = entry
                frame[kind] = entry["name"]
        entries["attack"] |= settings.get("attacks", {}) | settings.get("noises", {})
        if "network" in settings:
            entries["network"][settings["network"]["name"]] = settings["network"]
        for entry in settings.get("purifiers", []):
            entries["purifier"][entry["name"]] = entry
            if entry["denoiser_entry"]:
                entries["denoiser"][entry["denoiser"]] = entry["denoiser_entry"]
        for column in _NAMES:
            if column in settings:
                frame[column] = settings[column]
        if "lengths" in settings:
            frame["values"] = frame["representation"].map(settings["lengths"])
        for name, value in _chosen(settings):
            chosen.setdefault(name, {})[settings["seed"]] = value
        frames.append(frame)
    return Results(pd.concat(frames, ignore_index=True), entries, paths, chosen, all_settings)


def _chosen(settings: dict) -> Iterator[tuple[tuple[str, str, str, str], Any]]:
    """Data set, purifier, point and setting of each value that a job chose, and the value."""
    entry = settings.get("purifier") or {}
    for name, point in entry.get("points", {}).items():
        for setting in point.get("chosen", ()):
            key = settings["dataset"], entry["name"], name, setting
            yield key, point["settings"][setting]


def _frame(table: "pa.Table") -> "pd.DataFrame":
    """The rows; the prediction of an image that an attack spared is no class, -1."""
    frame = table.to_pandas()
    if "prediction" in frame and frame["prediction"].hasnans:
        frame["prediction"] = frame["prediction"].fillna(-1).astype("int32")
    return frame


def _schema_of(path: Path, schema: "pa.Schema | None") -> "pa.Schema | None":
    if schema is PREDICTIONS and "confusion" in column_names(path):
        return SEGMENTATION
    return schema


def _is_fitted_on(attack: tuple[str, str] | None, rows: "pa.Table") -> "pa.ChunkedArray":
    import pyarrow.compute as pc

    threat, point = attack or (rows["threat"], rows["attack_point"])
    return pc.and_(pc.equal(rows["fitted_threat"], threat), pc.equal(rows["fitted_point"], point))


def read_values(paths: list[Path]) -> list[tuple[dict, dict]]:
    """JSON result files: the value and the settings of each; DamagedFile as `check_value`."""
    values = [check_value(path, read_json(path)) for path in paths]
    settings = [read_provenance(path)["settings"] for path in paths]
    return list(zip(values, settings, strict=True))
