"""The detect stage: detectors fitted on interquartile ranges, scores of the rows set aside."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from advdenoise.calls import call_with, injected_parameters
from advdenoise.detectors._protocols import missing_class, split, units
from advdenoise.errors import BadInput, DamagedFile, remedy
from advdenoise.graph.sources import load
from advdenoise.graph.threats import CLEAN
from advdenoise.io.contents import check_rows
from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import collect_provenance, read_provenance
from advdenoise.io.schemas import DETECTION, IQR
from advdenoise.stages.columns import Columns

_ABOUT = ["attribution_point", "attack_point", "id", "label", "prediction"]


class Attack(NamedTuple):
    """One point of one threat, and the numbers of its rows: all clean ones, then its own."""

    threat: str
    point: str
    rows: np.ndarray


class Fit(NamedTuple):
    """A detector to be fitted: on which rows, and the rows of which attacks it scores."""

    attack: Attack
    protocol: str
    split_seed: int
    seed: int
    train: np.ndarray
    groups: np.ndarray
    tests: list[tuple[Attack, np.ndarray]]


class Features:
    """All rows of a suite under one attribution point, clean ones first.

    Feature vectors are read when they are asked for, one representation at a time.
    """

    def __init__(self, files: list[Path], threats: list[str], attribution_point: str):
        self._point = attribution_point
        self._files = _by_threat(files, [CLEAN, *threats])
        tables = [self._read(file, _ABOUT) for file in self._files]
        for file, table in zip(self._files, tables, strict=True):
            settings = read_provenance(file)["settings"]
            check_rows(file, table.drop_columns(["attribution_point"]), settings)
        self._table = pa.concat_tables(tables)
        self.is_adversarial = np.arange(len(self._table)) >= len(tables[0])
        self.attacks = list(_attacks(threats, tables))

    def column(self, name: str) -> np.ndarray:
        return self._table.column(name).to_numpy()

    def vectors(self, representation: str) -> np.ndarray:
        """Feature vectors of all rows: float32 [N, D]."""
        vectors, start = np.empty((0, 0), np.float32), 0
        for file in self._files:
            column = self._read(file, ["attribution_point", representation]).column(representation)
            if not len(vectors):
                vectors = np.empty((len(self._table), column.type.list_size), np.float32)
            for chunk in column.chunks:
                part = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
                if not np.isfinite(part).all():
                    raise DamagedFile(
                        f"{file}: features {representation} are not finite; {remedy(file)}"
                    )
                vectors[start : start + len(part)] = part
                start += len(part)
        return vectors

    def _read(self, file: Path, columns: list[str]) -> pa.Table:
        return read_table(file, IQR, columns, keep=partial(_has_point, self._point))


def run(settings: dict, features: list[Path], output: Path, threads: int) -> None:
    """Write the scores of every point of one detector entry; `features` in any order.

    One detector is fitted for each attack point, attribution point, representation, protocol and
    split seed, and scores the rows set aside; with `transfer` those of the suite's other attacks,
    too. Where a side of a split lacks a class nothing is written, and the log says so. The file
    tells the `lengths` of the representations.
    """
    started = time.time()
    columns = Columns(DETECTION)
    lengths: dict[str, int] = {}
    for attribution_point in settings["attribution"]["points"]:
        rows = Features(features, settings["threats"], attribution_point)
        fits = list(_fits(settings, rows))
        for representation in _representations(settings):
            vectors = rows.vectors(representation)
            lengths[representation] = vectors.shape[1]
            for name, point in settings["detector"]["points"].items():
                for fit in fits:
                    for block in _scores(fit, rows, vectors, point, threads):
                        if not np.isfinite(block["score"]).all():
                            raise BadInput(
                                f"detectors.{settings['detector']['name']}: {point['function']} "
                                "gives scores that are not finite; change its settings, or scale "
                                "its features"
                            )
                        columns.add(
                            len(block["id"]),
                            attribution_point=attribution_point,
                            representation=representation,
                            detector_point=name,
                            **block,
                        )
    about = settings | {"lengths": lengths}
    write_table(output, columns.table(), collect_provenance(about, started))


def _by_threat(files: list[Path], threats: list[str]) -> list[Path]:
    """The files in the order of the threats; each says whose images its rows are of."""
    by_threat = {read_provenance(file)["settings"]["threat"]: file for file in files}
    if len(files) != len(threats) or by_threat.keys() != set(threats):
        raise BadInput(
            f"features: {', '.join(map(str, files))} hold {', '.join(by_threat)}, where "
            f"{', '.join(threats)} are needed; delete those that do not belong and run again"
        )
    return [by_threat[threat] for threat in threats]


def _has_point(point: str, rows: pa.Table) -> pa.ChunkedArray:
    return pc.equal(rows.column("attribution_point"), point)


def _attacks(threats: list[str], tables: list[pa.Table]) -> Iterator[Attack]:
    """Every attack point of the threats' tables, which stand behind the clean one."""
    clean = np.arange(len(tables[0]))
    start = len(clean)
    for threat, table in zip(threats, tables[1:], strict=True):
        points = table.column("attack_point")
        for point in pc.unique(points).to_pylist():
            own = start + np.flatnonzero(pc.equal(points, point).to_numpy())
            yield Attack(threat, point, np.concatenate([clean, own]))
        start += len(table)


def _representations(settings: dict) -> list[str]:
    """Those asked for; a classifier without taps has no hidden nodes."""
    options = settings["detection"]["representations"]
    return [name for name in options if name != "hidden" or settings["has_hidden"]]


def _fits(settings: dict, features: Features) -> Iterator[Fit]:
    """Every detector with rows to fit and to score, for each protocol and split seed."""
    options = settings["detection"]
    for protocol in options["protocols"]:
        unit = units(protocol, features.column("id"))
        for number in range(options["split_seeds"]):
            seed = settings["seed"] * options["split_seeds"] + number
            sides = [
                (attack, *_sides(features, attack, protocol, seed)) for attack in features.attacks
            ]
            sides = [side for side in sides if len(side[1])]
            for attack, train, own in sides:
                tests = [(attack, own)]
                if options.get("transfer"):
                    others = [(b, test) for b, _, test in sides if b is not attack]
                    tests += _test_rows(features, attack, unit[train], unit, others)
                yield Fit(attack, protocol, number, seed, train, unit[train], tests)


def _sides(
    features: Features, attack: Attack, protocol: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to train and to test on, none where a side lacks a class."""
    rows = attack.rows
    ids, labels, predictions = (
        features.column(name)[rows] for name in ("id", "label", "prediction")
    )
    sides = split(protocol, ids, features.is_adversarial[rows], labels, predictions, seed)
    if sides.undefined:
        print(f"{attack.threat} {attack.point}, {protocol}: {sides.undefined}")
        return rows[:0], rows[:0]
    return rows[sides.train], rows[sides.test]


def _test_rows(
    features: Features,
    attack: Attack,
    trained: np.ndarray,
    unit: np.ndarray,
    tests: list[tuple[Attack, np.ndarray]],
) -> Iterator[tuple[Attack, np.ndarray]]:
    """Other attacks' test rows, without those whose `unit` was in the training."""
    for other, rows in tests:
        rows = rows[~np.isin(unit[rows], trained)]
        missing = missing_class(features.is_adversarial, unseen=rows)
        if missing:
            print(f"{attack.threat} {attack.point} on {other.threat} {other.point}: {missing}")
        else:
            yield other, rows


def _scores(
    fit: Fit, features: Features, vectors: np.ndarray, point: dict, threads: int
) -> Iterator[dict]:
    """Fit one detector; the scores of each attack's rows."""
    started = time.perf_counter()
    detector = call_with(load("detectors", point), seed=fit.seed, threads=threads)
    # A detector that divides its training rows once more must not tear apart what belongs together.
    groups = {"groups": fit.groups} if "groups" in injected_parameters(detector.fit) else {}
    detector.fit(vectors[fit.train], features.is_adversarial[fit.train], **groups)
    seconds = time.perf_counter() - started
    # Clean rows are every attack's: each is scored once.
    scored = np.unique(np.concatenate([rows for _, rows in fit.tests]))
    scores = np.asarray(detector.score(vectors[scored]), dtype=np.float32)
    for attack, rows in fit.tests:
        yield {
            "threat": attack.threat,
            "attack_point": attack.point,
            "fitted_threat": fit.attack.threat,
            "fitted_point": fit.attack.point,
            "protocol": fit.protocol,
            "split_seed": fit.split_seed,
            "id": features.column("id")[rows],
            "is_adversarial": features.is_adversarial[rows],
            "score": scores[np.searchsorted(scored, rows)],
            "fit_seconds": seconds,
        }
