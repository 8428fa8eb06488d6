"""Saved states that do not fit are removed, with a line in the log."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch

from advdenoise.errors import Preempted
from advdenoise.ops.resume import prepare_state, state_lock
from tests.training import worker
from tests.training.test_loop import STEP, assert_equal, network, one_thread, with_signals  # noqa: F401


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    worker.write_digits(path)
    return partial(worker.train, path=path)


@pytest.fixture(scope="module")
def stopped(train, tmp_path_factory) -> dict:
    """The state of a training stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Preempted):
        train(network(), state=folder, step=with_signals(STEP, (5, True)))
    return torch.load(folder / "d" / "state.pt", weights_only=True)


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory) -> torch.nn.Module:
    model = network()
    train(model, state=tmp_path_factory.mktemp("undisturbed"))
    return model


def changed(**values):
    def put(path: Path, state: dict) -> None:
        torch.save({**state, **values}, path)

    return put


def of_another_network(path: Path, state: dict) -> None:
    torch.save(state | {"weights": torch.nn.Linear(2, 2).state_dict()}, path)


def of_another_optimiser(path: Path, state: dict) -> None:
    torch.save(state | {"optimiser": {"mean": [], "square": [], "steps": []}}, path)


def not_finite(path: Path, state: dict) -> None:
    weights = {
        n: v * torch.nan if v.is_floating_point() else v for n, v in state["weights"].items()
    }
    torch.save(state | {"weights": weights}, path)


def without_epoch(path: Path, state: dict) -> None:
    torch.save({name: value for name, value in state.items() if name != "epoch"}, path)


WRONG = {
    "before the first epoch": changed(epoch=-5),
    "after all epochs": changed(epoch=10**9),
    "after all iterations": changed(epoch=10**9, iteration=4 * 10**9),
    "a text for an epoch": changed(epoch="2"),
    "after all batches": changed(batch=99),
    "of another training": changed(digest="another"),
    "no history": changed(history=None),
    "a list": lambda path, state: torch.save([state], path),
    "a tensor": lambda path, state: torch.save(torch.ones(2), path),
    "no epoch": without_epoch,
    "another network": of_another_network,
    "another optimiser": of_another_optimiser,
    "not finite": not_finite,
    "a folder": lambda path, state: (path / "more").mkdir(parents=True),
    "a pipe": lambda path, state: os.mkfifo(path),
    "a link to nowhere": lambda path, state: path.symlink_to("nowhere"),
    "a link to itself": lambda path, state: path.symlink_to(path),
    "empty": lambda path, state: path.touch(),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_training_starts_over_if_the_state_does_not_fit(
    tmp_path, wrong, train, stopped, undisturbed, caplog
):
    path = tmp_path / "d" / "state.pt"
    path.parent.mkdir()
    WRONG[wrong](path, stopped)
    model = network()
    train(model, state=tmp_path)
    (line,) = [line for line in caplog.messages if "starts over" in line]
    assert line.startswith(f"{path} is damaged (")
    assert_equal(model, undisturbed)


def test_a_valid_state_is_resumed(tmp_path, train, stopped, undisturbed, caplog):
    (tmp_path / "d").mkdir()
    torch.save(stopped, tmp_path / "d" / "state.pt")
    model = network()
    train(model, state=tmp_path)
    assert not [line for line in caplog.messages if "damaged" in line]
    assert_equal(model, undisturbed)


@pytest.mark.parametrize("place", [".", "lock", "d", ".."])
@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
def test_other_files_in_place_of_the_folder_are_removed(tmp_path, train, place, kind, caplog):
    state = tmp_path / "resume" / "output"
    path = Path(os.path.normpath(state / place))
    path.parent.mkdir(parents=True, exist_ok=True)
    {
        "file": path.touch,
        "folder": lambda: (path / "more").mkdir(parents=True),
        "link": lambda: path.symlink_to(path),
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    with state_lock(state):
        folder = prepare_state(state, "d")
    assert folder.parent.is_dir() and (not folder.exists() or folder.is_dir())
    lines = [line for line in caplog.messages if "is damaged" in line]
    harmless = kind == "folder" and place != "lock" or (place, kind) == ("lock", "file")
    assert bool(lines) != harmless
