"""Result files as data frames, with the names and entries that made them."""

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.advdenoise import store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NAMES = ("seed", "dataset", "split", "suite", "threat")
_ENTRIES = ("classifier", "purifier", "denoiser", "detector", "attribution")


class Results:
    """The files of one stage: rows of all of them, and every entry that they name."""

    def __init__(self, frame: "pd.DataFrame", entries: dict[str, dict]):
        self.frame = frame
        self._entries = entries

    def entry(self, kind: str, name: str) -> dict:
        """An entry by the singular of its kind and its name."""
        return self._entries[kind][name]

    def attack(self, threat: str) -> dict:
        """The entry of a threat's attack."""
        return self._entries["attack"][threat.partition("@")[0]]


def read(paths: list[Path], schema: "pa.Schema | None" = None) -> Results:
    """Read result files, all with the columns of `schema`; each row gets its file's names.

    These are the seed, the data set and the entries. Raises DamagedFile as `store.read_table`.
    """
    import pandas as pd

    frames, entries = [], {kind: {} for kind in (*_ENTRIES, "attack")}
    for path in paths:
        settings = store.read_provenance(path)["settings"]
        frame = store.read_table(path, schema).to_pandas()
        for kind in _ENTRIES:
            entry = settings.get(kind)
            if entry:
                entries[kind][entry["name"]] = entry
                frame[kind] = entry["name"]
        entries["attack"] |= settings.get("attacks", {})
        for entry in settings.get("purifiers", []):
            entries["purifier"][entry["name"]] = entry
            if entry["denoiser_entry"]:
                entries["denoiser"][entry["denoiser"]] = entry["denoiser_entry"]
        for name in _NAMES:
            if name in settings:
                frame[name] = settings[name]
        frames.append(frame)
    return Results(pd.concat(frames, ignore_index=True), entries)


def read_values(paths: list[Path]) -> list[tuple[dict, dict]]:
    """JSON result files: the value and the settings of each."""
    return [(store.read_json(path), store.read_provenance(path)["settings"]) for path in paths]
