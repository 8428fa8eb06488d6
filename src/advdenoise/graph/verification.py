"""What does not belong into a folder of results: damaged, foreign and forgotten files."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from advdenoise.errors import BadInput, remedy
from advdenoise.graph.flow import Flow
from advdenoise.graph.resolution import CHOSEN, is_block
from advdenoise.graph.stages import rule_of
from advdenoise.io.digests import settings_digest
from advdenoise.io.files import require_file
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.ops.files import final_path

CONFIGURATION = "config.yaml"  # of a folder of results: the configuration in effect
_RESUME = "resume"  # what jobs go on from; they clear it themselves
_UNSIGNED = (".csv", ".md", ".tex", ".svg", ".sha256")  # files without provenance
_SUFFIXES = (".h5", ".parquet", ".safetensors", ".json", *_UNSIGNED)
_MOST = 3  # settings that a sentence names
_LENGTH = 60  # characters of a value that a sentence shows
_PIECE = 64  # rows of an array that are read at a time


def flow_of(folder: Path) -> Flow:
    """The graph of the configuration that a folder of results was last used with.

    Raises BadInput where that cannot be read.
    """
    import yaml

    path = folder / CONFIGURATION
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Flow(config | {})
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or "it is no configuration"
        raise BadInput(
            f"{path} cannot be read ({reason}); name the configuration with --configfile"
        ) from error


def files_below(folder: Path) -> Iterator[Path]:
    """All that lies in a folder of results, apart from its configuration and resume states."""
    for path in sorted(folder.iterdir()):
        if path.name in (CONFIGURATION, _RESUME):
            continue
        is_folder = path.is_dir() and path.suffix not in _SUFFIXES
        if is_folder and path.resolve() not in path.absolute().parents:
            yield from files_below(path)
        else:
            yield path


class Verifier:
    """Compares files of `folder`, which is a graph's `results/{scale}`, with that graph."""

    def __init__(self, flow: Flow, folder: Path):
        self._flow, self._folder = flow, folder
        self._names = {name: re.compile(text) for name, text in flow.constraints().items()}

    def complaint(self, path: Path, contents: bool = True) -> str | None:
        """One sentence on what is wrong with a file; None where all is well.

        Without `contents` only what made the file is looked at.
        """
        if final_path(path) != path:
            return f"{path}: was left behind by a killed job; delete it"
        place = path.relative_to(self._folder).as_posix()
        job = self._job(place.removesuffix(".sha256"))
        if job is None:
            return f"{path}: belongs to no job of the configuration; delete it if nobody needs it"
        try:
            require_file(path)
            if path.suffix == ".sha256":
                weights = path.with_suffix("")
                return None if weights.exists() else f"{path}: there are no {weights}; delete it"
            if path.suffix in _UNSIGNED:
                return None
            settings = read_provenance(path)["settings"]
            if contents:
                read_whole(path)
        except BadInput as reason:
            return str(reason)
        return self._foreign(path, settings, *job)

    def _job(self, place: str) -> tuple[str, dict[str, Any]] | None:
        """The rule and the wildcards of a file, if the configuration has such a job."""
        maker = rule_of(place)
        if maker is None:
            return None
        rule, names = maker
        experiments: Any = self._flow.config["experiments"]
        experiment = experiments.get(names.get("experiment"), {})
        if "figure" in names and names.pop("figure") not in experiment.get("figures", {}):
            return None
        for kind in ("table", "rows"):
            if kind in names and names[kind] not in experiment.get("tables", {}):
                return None
        if any(not self._names[name].fullmatch(value) for name, value in names.items()):
            return None
        try:
            self._flow.job(rule, names)
        except (BadInput, KeyError):
            return None
        return maker

    def _foreign(
        self, path: Path, settings: dict[str, Any], rule: str, names: dict[str, Any]
    ) -> str | None:
        """The sentence on a file that was made with other settings than its job's."""
        expected = json.loads(json.dumps(self._flow.whole_settings(rule, names)))
        digest = settings.get("digest")
        if digest == settings_digest(expected):
            return None
        inputs = expected.pop("input_digests")
        if digest is None:  # of a version that recorded neither
            expected.pop("rule")
        differing = list(itertools.islice(_differences(settings, expected), _MOST))
        if differing and differing[0][0] == "rule":
            differing = differing[:1]
        if differing:
            actual = ", ".join(f"{key} {_short(value)}" for key, value, _ in differing)
            right = ", ".join(f"{key} {_short(value)}" for key, _, value in differing)
            return f"{path}: was made for {actual}; expected {right}; {remedy(path)}"
        if digest is None:
            return None
        return self._of_other_inputs(path, settings, inputs, self._flow.job(rule, names).inputs)

    def _of_other_inputs(
        self,
        path: Path,
        settings: dict[str, Any],
        digests: dict[str, list[str]],
        inputs: Mapping[str, str | Sequence[str]],
    ) -> str:
        own = settings.get("input_digests", {})
        others = [
            file
            for name, files in inputs.items()
            for place, file in enumerate([files] if isinstance(files, str) else files)
            if own.get(name, [])[place : place + 1] != digests[name][place : place + 1]
        ]
        which = others[0] if others else "other inputs"
        return (
            f"{path}: was made from a {which} of other settings; expected that of this "
            f"configuration; {remedy(path)}"
        )


def read_whole(path: Path) -> None:
    """Read all of a file, so that its checksums are compared; DamagedFile where they differ."""
    if path.suffix == ".parquet":
        import numpy as np
        import pyarrow as pa

        read_table(path, keep=lambda rows: pa.array(np.zeros(len(rows), bool)))
    elif path.suffix == ".h5":
        with open_hdf5(path) as file:
            file.visititems(_read_array)


def _read_array(_: Any, item: Any) -> None:
    if hasattr(item, "shape"):
        for start in range(0, len(item), _PIECE):
            item[start : start + _PIECE]


def _differences(actual: Any, expected: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What differs: its key, the value that a file was made with, the value of its job.

    A job may add results to its settings and to their entries, and puts what was chosen in the
    place of candidates.
    """
    if is_block(expected):
        if actual != expected and actual not in expected["choose"]:
            yield key, actual, expected
        return
    if not (isinstance(actual, dict) and isinstance(expected, dict)):
        if actual != expected:
            yield key, actual, expected
        return
    if actual.get("name") != expected.get("name"):
        yield key, actual, expected
        return
    grows = not key or "name" in expected
    more = () if grows else (name for name in actual if name not in (*expected, CHOSEN))
    names = [*expected, *more]
    first = ("rule", "seed", "dataset", "split")
    for name in sorted(names, key=lambda name: name not in first):
        inner = f"{key}.{name}" if key else name
        yield from _differences(actual.get(name), expected.get(name), inner)


def _short(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    text = value if isinstance(value, str) else json.dumps(value)
    text = "none" if value is None else text
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."
