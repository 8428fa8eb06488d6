"""Rows that a stage has finished and that outlive its job, so that the next one goes on there.

For stages that make their rows batch by batch. Between two batches SIGTERM and SIGUSR1 are
honoured, and now and then finished rows go to disk, since a node may die without a signal. Within
a batch nothing is kept: where one takes hours, as 500 steps for each of nine weights, an
interruption costs up to those hours, and a job killed before its batch is done saves no more.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.errors import BadInput, Preempted
from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.ops.files import remove
from advdenoise.ops.resume import Interruption, prepare_state, state_lock
from advdenoise.ops.system import Refusal

log = logging.getLogger(__name__)

# Rows wait in memory until they are so old or so many; a shorter job writes no part file.
FLUSH_SECONDS = 60.0
FLUSH_BYTES = 256 << 20

KIND = "finished rows"

Arrays = dict[str, np.ndarray]


@contextmanager
def finished_rows(state: Path, digest: str, name: str) -> Iterator["FinishedRows"]:
    """Hold a state folder and give its finished rows; put the output in place within the block.

    Call `resume.remove_state` on the folder after the block.

    Args:
        state: the output's `resume.state_folder`, locked meanwhile.
        digest: its `state_digest`; what another one left is removed.
        name: what is made, for messages.
    """
    with state_lock(state), Interruption() as interruption:
        yield FinishedRows(prepare_state(state, digest), name, interruption, digest)


class FinishedRows:
    """Rows by series and place: those that earlier jobs left behind and those of this one.

    They lie in part files of runs of rows, written atomically and checked when read; what a
    damaged part held is made anew.
    """

    def __init__(self, folder: Path, name: str, interruption: Interruption, digest: str):
        self._folder, self._name, self._interruption = folder, name, interruption
        self._digest = digest
        self._waiting: list[_Run] = []
        self._bytes, self._flushed = 0, time.monotonic()
        self._stored: dict[tuple[str, int], _Place] = {}
        rows = sum(self._find(part) for part in sorted(folder.glob("*.h5")))
        if rows:
            log.info("%s: resumed, %d rows were finished before", name, rows)

    def each(
        self, series: str, count: int, size: int, make: Callable[[slice], Arrays]
    ) -> Iterator[tuple[slice, Arrays]]:
        """All rows of a series, in order: those finished before, and new ones by `make`.

        Args:
            series: its name, different from that of any other series of this job.
            count: the rows of the whole series.
            size: the rows of a batch, always the same for one digest, so that a batch has the
                composition that it has in an undisturbed job.
            make: gives the arrays of a batch by name, each with the batch's rows along axis 0.

        Raises:
            Preempted: on SIGTERM or SIGUSR1, the current batch done and the rows saved.
        """
        start = 0
        while start < count:
            arrays = self._read(series, start, count, size)
            if arrays is None:
                rows = slice(start, min(start + size, count))
                arrays = make(rows)
                self._keep(series, rows, arrays)
            stop = start + len(next(iter(arrays.values())))
            yield slice(start, stop), arrays
            start = stop
            if self._interruption.signal:
                self._flush()
                raise Preempted(
                    f"{self._name}: {self._interruption.signal} received; {series} is saved up to "
                    f"row {stop} of {count} and a rerun goes on from there"
                )

    def _find(self, part: Path) -> int:
        """Note the runs of a part file; their rows."""
        try:
            with open_hdf5(part, KIND) as file:
                if json.loads(file.attrs["provenance"]) != {"digest": self._digest}:
                    raise BadInput("another job's")
                attributes = {key: dict(group.attrs) for key, group in file.items()}
            runs = [(key, run["series"], int(run["start"])) for key, run in attributes.items()]
            rows = sum(int(run["stop"] - run["start"]) for run in attributes.values())
        except Refusal:  # it may be whole
            raise
        except (BadInput, KeyError, TypeError, ValueError):
            self._drop(part)
            return 0
        for key, series, start in runs:
            self._stored[series, start] = _Place(part, key)
        return rows

    def _read(self, series: str, start: int, count: int, size: int) -> Arrays | None:
        """The stored run that begins at this row, if there is one; whole batches of the series."""
        place = self._stored.pop((series, start), None)
        if place is None:
            return None
        try:
            with open_hdf5(place.part, KIND) as file:
                arrays = {name: array[:] for name, array in file[place.key].items()}
        except Refusal:
            raise
        except BadInput:
            self._drop(place.part)
            return None
        lengths = {len(array) for array in arrays.values()}
        stop = start + max(lengths, default=0)
        if len(lengths) != 1 or not start < stop <= count or (stop % size and stop != count):
            self._drop(place.part)
            return None
        return arrays

    def _drop(self, part: Path) -> None:
        log.warning("%s is damaged: the rows that it held are made anew", part)
        remove(part)
        self._stored = {run: at for run, at in self._stored.items() if at.part != part}

    def _keep(self, series: str, rows: slice, arrays: Arrays) -> None:
        last = self._waiting[-1] if self._waiting else None
        if last and (last.series, last.stop) == (series, rows.start):
            last.batches.append(arrays)
            last.stop = rows.stop
        else:
            self._waiting.append(_Run(series, rows.start, rows.stop, [arrays]))
        self._bytes += sum(array.nbytes for array in arrays.values())
        if time.monotonic() - self._flushed > FLUSH_SECONDS or self._bytes > FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write all rows that wait to a new part file."""
        if self._waiting:
            part = self._folder / f"{uuid.uuid4().hex}.h5"
            with create_hdf5(part, {"digest": self._digest}, KIND) as file:
                for number, run in enumerate(self._waiting):
                    run.write(file.create_group(str(number)))
        self._waiting, self._bytes, self._flushed = [], 0, time.monotonic()


class _Place(NamedTuple):
    """Where a stored run lies."""

    part: Path
    key: str


@dataclass
class _Run:
    """Consecutive rows of one series, batch by batch."""

    series: str
    start: int
    stop: int
    batches: list[Arrays]

    def write(self, group) -> None:
        group.attrs.update(series=self.series, start=self.start, stop=self.stop)
        for name, first in self.batches[0].items():
            shape = (self.stop - self.start, *first.shape[1:])
            stored = add_array(group, name, shape=shape, dtype=first.dtype)
            row = 0
            for arrays in self.batches:
                stored[row : row + len(arrays[name])] = arrays[name]
                row += len(arrays[name])
