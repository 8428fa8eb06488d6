"""The detect stage: detectors fitted on interquartile ranges, scores of the rows set aside."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scripts.advdenoise import store
from scripts.advdenoise.components import load, provide
from scripts.advdenoise.detectors._protocols import split
from scripts.advdenoise.schemas import DETECTION, IQR
from scripts.advdenoise.stages.columns import Columns


class Rows(NamedTuple):
    """Clean and adversarial feature rows of one attack point and one attribution point."""

    threat: str
    attack_point: str
    attribution_point: str
    table: pa.Table
    is_adversarial: np.ndarray

    def column(self, name: str) -> np.ndarray:
        return self.table.column(name).to_numpy()

    def features(self, representation: str) -> np.ndarray:
        """Feature vectors: float32 [N, D]."""
        column = self.table.column(representation).combine_chunks()
        return column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32, copy=False)


def run(settings: dict, features: list[Path], output: Path, threads: int) -> None:
    """Write the scores of every point of one detector entry; `features` are clean ones first.

    One detector is fitted for each attack point, attribution point, representation, protocol and
    split seed. Where a side of a split lacks a class nothing is written, and the log says so.
    """
    started = time.time()
    columns = Columns(DETECTION)
    for rows in _pairs(settings, features):
        for representation in _representations(settings):
            values = rows.features(representation)
            for name, point in settings["detector"]["points"].items():
                for block in _judge(settings, rows, values, point, threads):
                    columns.add(
                        len(block["id"]),
                        threat=rows.threat,
                        attack_point=rows.attack_point,
                        attribution_point=rows.attribution_point,
                        representation=representation,
                        detector_point=name,
                        **block,
                    )
    store.write_table(output, columns.table(), store.provenance(settings, started))


def _pairs(settings: dict, features: list[Path]) -> Iterator[Rows]:
    """Clean rows joined with those of each attack point, for each attribution point."""
    clean, *attacked = (store.read_table(path, IQR) for path in features)
    for threat, table in zip(settings["threats"], attacked, strict=True):
        for attribution in settings["attribution"]["points"]:
            negatives = _where(clean, "attribution_point", attribution)
            chosen = _where(table, "attribution_point", attribution)
            for attack_point in pc.unique(chosen.column("attack_point")).to_pylist():
                positives = _where(chosen, "attack_point", attack_point)
                is_adversarial = np.repeat([False, True], [len(negatives), len(positives)])
                joined = pa.concat_tables([negatives, positives])
                yield Rows(threat, attack_point, attribution, joined, is_adversarial)


def _where(table: pa.Table, column: str, value: str) -> pa.Table:
    return table.filter(pc.equal(table.column(column), value))


def _representations(settings: dict) -> list[str]:
    """Those asked for; a classifier without taps has no hidden nodes."""
    asked = settings["detection"]["representations"]
    return [name for name in asked if name != "hidden" or settings["has_hidden"]]


def _judge(settings: dict, rows: Rows, values: np.ndarray, point: dict, threads: int):
    """Fit and score one detector under every protocol and split seed."""
    for protocol in settings["detection"]["protocols"]:
        for number in range(settings["detection"]["split_seeds"]):
            seed = settings["seed"] * settings["detection"]["split_seeds"] + number
            found = split(
                protocol,
                rows.column("id"),
                rows.is_adversarial,
                rows.column("label"),
                rows.column("prediction"),
                seed,
            )
            if found.undefined:
                print(f"{rows.threat} {rows.attack_point}, {protocol}: {found.undefined}")
                continue
            started = time.perf_counter()
            detector = provide(load("detectors", point), seed=seed, threads=threads)
            detector.fit(values[found.train], rows.is_adversarial[found.train])
            seconds = time.perf_counter() - started
            yield {
                "protocol": protocol,
                "split_seed": number,
                "id": rows.column("id")[found.test],
                "is_adversarial": rows.is_adversarial[found.test],
                "score": np.asarray(detector.score(values[found.test]), dtype=np.float32),
                "fit_seconds": seconds,
            }
