"""Attack jobs that are stopped, killed or run twice end with the bits of an undisturbed one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.errors import EXIT_PREEMPTED, Preempted
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.stages import attack, finished

ROOT = Path(__file__).parents[2]
FILE = "seed0/digits/adversarial/cycled@small/few.h5"
# 12 images, whose epsilons change within a batch, at each of two points: batches 0 to 3 and 4 to 7.
SMALL = {"batch": 3}
BATCHES = 8


def contents(path: Path) -> dict[str, bytes]:
    """All arrays, bit by bit."""
    with open_hdf5(path, "adversarial") as file:
        result = {}
        file.visititems(
            lambda name, item: result.update(
                {name: item[:].tobytes()} if hasattr(item, "shape") else {}
            )
        )
    return result


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory) -> dict[str, bytes]:
    result = contents(world.run(FILE, tmp_path_factory.mktemp("whole") / "a.h5", SMALL))
    assert {"points/pgd/perturbation", "points/fgsm/success", "points/pgd/epsilon"} < set(result)
    return result


@pytest.fixture
def run(world, tmp_path):
    """Runs the job in this process; its state lies below `tmp_path`."""

    def run(changes=None, **others) -> Path:
        others = {"resume": tmp_path / "resume", **others}
        return world.run(FILE, tmp_path / "a.h5", SMALL | (changes or {}), **others)

    return run


@pytest.fixture
def attacked_ids(monkeypatch) -> list[int]:
    """The first image's id of each batch that is attacked from now on; some numbers end the job."""
    ids_attacked: list[int] = []
    make = attack.AttackRun.__call__

    def noting(attacker, point, batch, epsilons):
        ids_attacked.append(int(batch.ids[0]))
        return make(attacker, point, batch, epsilons)

    monkeypatch.setattr(attack.AttackRun, "__call__", noting)
    return ids_attacked


@pytest.fixture
def signalled(monkeypatch):
    """Lets a signal come while the batch of that number, from now, is at work."""

    def put(batch: int, number=signal.SIGTERM) -> None:
        make, left = attack.AttackRun.__call__, [batch]

        def raising(*arguments):
            if left[0] == 0:
                signal.raise_signal(number)
            left[0] -= 1
            return make(*arguments)

        monkeypatch.setattr(attack.AttackRun, "__call__", raising)

    return put


def parts(folder: Path) -> list[Path]:
    return list((folder / "resume").rglob("*.h5/*/*.h5"))


def test_a_job_that_nobody_stops_writes_no_part_and_leaves_no_state(run, tmp_path, monkeypatch):
    monkeypatch.setattr(finished.FinishedRows, "_flush", None)
    run()
    assert not (tmp_path / "resume" / (tmp_path / "a.h5").relative_to("/")).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_stopped_in_every_batch_it_makes_each_once(
    run, tmp_path, undisturbed, attacked_ids, signalled, number, caplog
):
    for batch in range(BATCHES):
        signalled(0, number)
        with pytest.raises(
            Preempted, match=rf"cycled@small: {number.name} received; (fgsm|pgd) is"
        ):
            run()
        assert len(parts(tmp_path)) == len(attacked_ids) == batch + 1
        assert not (tmp_path / "a.h5").exists()
        assert not list(tmp_path.glob(".*.part"))
    with caplog.at_level("INFO"):
        assert contents(run()) == undisturbed
    assert "cycled@small: resumed, 24 rows were finished before" in caplog.text
    assert (
        len(attacked_ids) == BATCHES
        and attacked_ids[:4] == attacked_ids[4:]
        and len(set(attacked_ids)) == 4
    )
    assert not parts(tmp_path)


def test_a_damaged_part_is_made_anew(
    run, tmp_path, undisturbed, attacked_ids, signalled, monkeypatch
):
    monkeypatch.setattr(finished, "FLUSH_SECONDS", 0.0)
    signalled(5)
    with pytest.raises(Preempted):
        run()
    torn, flipped, *others = sorted(parts(tmp_path), key=lambda part: part.stat().st_mtime_ns)
    torn.write_bytes(torn.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 4
    flipped.write_bytes(data)
    assert len(others) == 4
    attacked_ids.clear()
    assert contents(run()) == undisturbed
    assert len(attacked_ids) == 2 + 2


@pytest.mark.parametrize("change", ["settings", "code", "inputs"])
def test_what_was_made_otherwise_is_not_taken(
    run, world, tmp_path, undisturbed, attacked_ids, signalled, change
):
    signalled(5)
    with pytest.raises(Preempted):
        run()
    attacked_ids.clear()
    if change == "settings":
        whole = world.run(FILE, tmp_path / "b.h5", SMALL | {"seed": 5})
        attacked_ids.clear()
        again = contents(run({"seed": 5}))
        assert again == contents(whole) != undisturbed
    elif change == "code":
        assert contents(run(code="other")) == undisturbed
    else:
        copy = tmp_path / "images.h5"
        copy.write_bytes(world.make("images/digits/few.h5").read_bytes())
        assert contents(run(images=copy)) == undisturbed
    assert len(attacked_ids) == BATCHES


# ---------------------------------------------------------------- processes


class Job:
    """The job in a process of its own, by its command line."""

    def __init__(self, world, output: Path, resume: Path, stop_at: int):
        _, options = world.options(FILE, output, SMALL)
        options |= {"resume": resume, "settings": json.dumps(options["settings"])}
        inputs = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stages.attack_worker", str(stop_at), *inputs],
            cwd=ROOT,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def wait_at(self, batch: int) -> None:
        for line in self.process.stdout:
            if line == f"batch {batch}\n":
                return
        raise AssertionError(self.process.stderr.read())

    def wait_for(self, words: str) -> None:
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"{words!r} was never said")

    def end(self) -> tuple[int, str, str]:
        """Close its standard input, so that it goes on; exit status and what it prints."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture
def start(world, tmp_path):
    jobs = []

    def start(stop_at: int = -1) -> Job:
        jobs.append(Job(world, tmp_path / "a.h5", tmp_path / "resume", stop_at))
        return jobs[-1]

    yield start
    for job in jobs:
        job.process.kill()
        job.process.communicate()


def test_a_job_asked_to_stop_says_so_and_a_second_one_waits_for_an_orphan(
    start, tmp_path, undisturbed
):
    first = start(stop_at=2)
    first.wait_at(2)
    first.process.send_signal(signal.SIGUSR1)
    code, out, err = first.end()
    assert (code, out) == (EXIT_PREEMPTED, "")  # no further batch
    assert "SIGUSR1 received; fgsm is saved up to row 9 of 12 and a rerun goes on from" in err

    orphan = start(stop_at=3)  # its batches are 3, 4 ... of the whole
    orphan.wait_at(3)
    second = start()
    second.wait_for(f"is locked by process {orphan.process.pid} on ")
    orphan.process.kill()  # kill -9
    code, out, err = second.end()
    assert code == 0, err
    assert "resumed, 18 rows were finished before" in err
    assert [line for line in out.splitlines() if line.startswith("batch")] == ["batch 0", "batch 1"]
    assert contents(tmp_path / "a.h5") == undisturbed
    assert not parts(tmp_path)
