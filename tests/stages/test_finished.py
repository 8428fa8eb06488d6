"""Finished rows: each is made once, kept in few files, and never taken from a damaged one."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.errors import Preempted
from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.ops import resume
from advdenoise.stages import finished

SERIES = {"a": 7, "b": 12}
SIZE = 3
BATCHES = [("a", 0), ("a", 3), ("a", 6), ("b", 0), ("b", 3), ("b", 6), ("b", 9)]


def row(series: str, number: int) -> np.ndarray:
    return np.random.default_rng([ord(series), number]).normal(size=(2, 2)).astype(np.float32)


EXPECTED = {s: np.stack([row(s, number) for number in range(n)]) for s, n in SERIES.items()}


class Crash(Exception):
    """A job that dies."""


def job(state: Path, ends: dict | None = None, digest: str = "d") -> tuple[dict, list]:
    """All series, and the batches that were made for them; `ends` says how a batch ends."""
    results, ends = [], ends or {}

    def maker(series):
        def make(rows):
            end = ends.get((series, rows.start))
            if end is Crash:
                raise Crash
            if end:
                signal.raise_signal(end)
            results.append((series, rows.start))
            values = np.stack([row(series, number) for number in range(rows.start, rows.stop)])
            return {"values": values, "even": np.arange(rows.start, rows.stop) % 2 == 0}

        return make

    result = {}
    with finished.finished_rows(state, digest, "job") as rows:
        for series, count in SERIES.items():
            values, even = np.zeros((count, 2, 2), np.float32), np.zeros(count, bool)
            for some, arrays in rows.each(series, count, SIZE, maker(series)):
                values[some], even[some] = arrays["values"], arrays["even"]
            assert np.array_equal(even, np.arange(count) % 2 == 0)
            result[series] = values
    return result, results


def assert_whole(result: dict) -> None:
    assert result.keys() == EXPECTED.keys()
    for series, values in EXPECTED.items():
        assert np.array_equal(result[series], values)


def parts(state: Path) -> list[Path]:
    return sorted(state.glob("*/*"))


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(finished, "FLUSH_SECONDS", -1.0)


def test_a_short_job_writes_no_part(tmp_path):
    result, results = job(tmp_path)
    assert_whole(result)
    assert results == BATCHES and not parts(tmp_path)


@pytest.mark.parametrize("stop", BATCHES)
def test_a_job_that_is_asked_to_stop_keeps_all_in_one_part(tmp_path, stop):
    with pytest.raises(Preempted, match=f"job: SIGUSR1 received; {stop[0]} is saved up to row"):
        job(tmp_path, {stop: signal.SIGUSR1})
    assert len(parts(tmp_path)) == 1
    result, results = job(tmp_path)
    assert_whole(result)
    assert results == BATCHES[BATCHES.index(stop) + 1 :]


def test_a_job_that_dies_loses_the_batch_at_work(tmp_path, eager):
    for number, batch in enumerate(BATCHES):
        with pytest.raises(Crash):
            job(tmp_path, {batch: Crash})
        assert len(parts(tmp_path)) == number
    result, results = job(tmp_path)
    assert_whole(result)
    assert results == BATCHES[-1:]


def test_rows_go_to_disk_when_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(finished, "FLUSH_BYTES", 2 * SIZE * (16 + 1))
    with pytest.raises(Crash):
        job(tmp_path, {("b", 6): Crash})
    assert len(parts(tmp_path)) == 1  # the seven rows of a; the six of b are not more than allowed
    result, results = job(tmp_path)
    assert_whole(result)
    assert results == BATCHES[3:]


def test_a_stop_while_rows_are_given_back_costs_nothing(tmp_path, eager):
    with pytest.raises(Crash):
        job(tmp_path, {("b", 6): Crash})
    before = parts(tmp_path)
    with (
        pytest.raises(Preempted, match="a is saved up to row 3 of 7"),
        finished.finished_rows(tmp_path, "d", "job") as rows,
    ):
        for _ in rows.each("a", 7, SIZE, None):
            os.kill(os.getpid(), signal.SIGTERM)
    assert parts(tmp_path) == before


def test_another_digest_takes_nothing_over(tmp_path, eager):
    with pytest.raises(Crash):
        job(tmp_path, {("b", 0): Crash})
    result, results = job(tmp_path, digest="e")
    assert_whole(result)
    assert results == BATCHES
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["e", "lock"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The parts of a job that was stopped twice."""
    state = tmp_path_factory.mktemp("whole")
    for stop in (BATCHES[2], BATCHES[4]):
        with pytest.raises(Preempted):
            job(state, {stop: signal.SIGTERM})
    return {str(part.relative_to(state)): part.read_bytes() for part in parts(state)}


@given(data=st.data())
def test_a_damaged_part_is_noticed_and_its_rows_are_made_anew(whole, data, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    (state / "d").mkdir()
    for name, content in whole.items():
        (state / name).write_bytes(content)
    name = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[name])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (state / name).write_bytes(content)
    result, results = job(state)
    assert_whole(result)
    lost = [BATCHES[:3], BATCHES[3:5]]
    assert results in [one + BATCHES[5:] for one in lost]
    assert not (state / name).exists()


def other_digest(part: Path) -> None:
    _rewrite(part, {"digest": "another"}, slice(None))


def cut_rows(part: Path) -> None:
    _rewrite(part, {"digest": "d"}, slice(0, 2))


def no_rows(part: Path) -> None:
    _rewrite(part, {"digest": "d"}, slice(0, 0))


def without_names(part: Path) -> None:
    with create_hdf5(part, {"digest": "d"}, finished.KIND) as file:
        file.create_group("0")


def _rewrite(part: Path, made_by: dict, rows: slice) -> None:
    """The same part, by a valid writer, with some of the rows of each run."""
    with open_hdf5(part) as file:
        runs = [(dict(g.attrs), {n: a[:] for n, a in g.items()}) for g in file.values()]
    with create_hdf5(part, made_by, finished.KIND) as file:
        for number, (about, arrays) in enumerate(runs):
            group = file.create_group(str(number))
            group.attrs.update(about)
            for name, array in arrays.items():
                add_array(group, name, array[rows])


def in_its_place(make):
    def replace(part: Path) -> None:
        part.unlink()
        make(part)

    return replace


WRONG = {
    "another digest": other_digest,
    "fewer rows": cut_rows,
    "no rows": no_rows,
    "no names": without_names,
    "a folder": in_its_place(lambda part: (part / "more").mkdir(parents=True)),
    "a pipe": in_its_place(os.mkfifo),
    "a link": in_its_place(lambda part: part.symlink_to("nowhere")),
    "empty": in_its_place(lambda part: part.touch()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_part_that_does_not_fit_is_made_anew(whole, tmp_path, wrong, caplog):
    (tmp_path / "d").mkdir()
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    WRONG[wrong](tmp_path / min(whole))
    parts, computed = job(tmp_path)
    assert_whole(parts)
    assert computed != BATCHES[5:]
    assert f"{tmp_path / min(whole)} is damaged" in caplog.text
    assert not os.path.lexists(tmp_path / min(whole))


def test_a_hole_is_filled_and_the_job_stopped_again(tmp_path, eager, monkeypatch):
    with pytest.raises(Crash):
        job(tmp_path, {("b", 6): Crash})
    first = min(parts(tmp_path), key=lambda part: part.stat().st_mtime_ns)
    first.unlink()
    monkeypatch.setattr(finished, "FLUSH_SECONDS", 60.0)
    with pytest.raises(Preempted):
        job(tmp_path, {("b", 6): signal.SIGTERM})
    result, results = job(tmp_path)
    assert_whole(result)
    assert results == [("b", 9)]


def test_the_state_goes_with_remove_state(tmp_path):
    with pytest.raises(Preempted):
        job(tmp_path / "state", {("a", 0): signal.SIGTERM})
    resume.remove_state(tmp_path / "state")
    assert not (tmp_path / "state").exists()
