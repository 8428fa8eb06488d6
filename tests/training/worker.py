"""A small training of real digits, run by tests as a separate job.

python -m tests.training.worker DIGITS STATE WEIGHTS [--stop-at ITERATION]: prints `at ITERATION`
before each batch and, at the one of --stop-at, waits for a line on its standard input.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from advdenoise.errors import EXIT_PREEMPTED, Preempted
from advdenoise.ops.resume import remove_state
from advdenoise.training import _loop, plain
from advdenoise.training._examples import Clean

LOOP = {
    "epochs": 3,
    "batch": 32,
    "optimiser": {"name": "rmsprop", "lr": 0.003, "decay": 0.01, "weight_decay": 0.0002},
    "schedule": {"2": 0.001},
}
STEP = partial(plain.classify, shift=0.1, rotation=10.0)


def write_digits(path: Path) -> None:
    """Write scikit-learn's 8x8 digits to a file, so that jobs start without scikit-learn."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images[:, None] * 255 / 16).astype(np.uint8)
    np.savez(path, images=images, labels=data.target)


def digits(path: Path, first: int, last: int) -> Clean:
    """Some of the digits of the file."""
    data = np.load(path)
    return Clean(data["images"][first:last], data["labels"][first:last], range(first, last))


def network() -> nn.Module:
    """A network with running statistics and dropout, which a state must restore."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def train(
    model: nn.Module, path: Path, state: Path, *, step=STEP, digest: str = "d", **changes
) -> list[dict]:
    """Train on 100 digits of the file, hold out 50."""
    settings = {"seed": 3, "name": "net", "state": state, "digest": digest, "device": "cpu"}
    examples, held_out = digits(path, 0, 100), digits(path, 100, 150)
    return _loop.train(model, step, examples, {**LOOP, **changes}, held_out=held_out, **settings)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("digits", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--stop-at", type=int)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)

    def step(model, images, labels, noise, iteration):
        if model.training:
            print(f"at {iteration}", flush=True)
            if iteration == arguments.stop_at:
                sys.stdin.readline()
        return STEP(model, images, labels, noise)

    model = network()
    try:
        history = train(model, arguments.digits, arguments.state, step=step)
    except Preempted as preempted:
        print(preempted, file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    torch.save({"weights": model.state_dict(), "history": history}, arguments.weights)
    remove_state(arguments.state)
    assert "torch._dynamo" not in sys.modules  # it takes longer to import than all of the rest


if __name__ == "__main__":
    main()
