"""Which rows a detector is trained and tested on.

The rows are feature vectors of clean images and of one attack's adversarial images. Both protocols
use a fifth for the test. `paper` is that of Al Bared and Nassar 2021: it uses all rows, and an
image may be in the training part while its adversarial counterpart is in the test part. `grouped`
keeps the rows of an image together and uses only images that were correctly classified and
successfully attacked, each with its clean and its adversarial row.
"""

from dataclasses import dataclass

import numpy as np

from advdenoise.errors import BadInput, suggest

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Row numbers (int64) of the two sides.

    `undefined` is a sentence that says why nothing can be measured, or None.
    """

    train: np.ndarray
    test: np.ndarray
    undefined: str | None = None


def split(
    protocol: str,
    ids: np.ndarray,
    is_adversarial: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    seed: int,
) -> Split:
    """Split rows by `protocol`, "paper" or "grouped".

    Args:
        ids: image of each row, int [N]; an image has one clean row.
        is_adversarial: bool [N].
        labels, predictions: true class, and the classifier's for the row's image, int [N].
        seed: the split's seed.

    Returns:
        A split whose `undefined` is a sentence if a side has no clean or no adversarial rows.

    Raises:
        BadInput: for another protocol.
    """
    if protocol not in PROTOCOLS:
        raise BadInput(f"detection: unknown protocol {protocol!r}; {suggest(protocol, PROTOCOLS)}")
    train, test = PROTOCOLS[protocol](ids, is_adversarial, labels == predictions, seed)
    return Split(train, test, missing_class(is_adversarial, train=train, test=test))


def units(protocol: str, ids: np.ndarray) -> np.ndarray:
    """The unit [N] that the protocol splits by: the image of each row, or the row under `paper`.

    Folds inside the training rows are split by these units, too. A detector is tested on another
    attack's rows only if their units are not in its training rows, so that under `paper` those
    rows leak as much as the attack's own: their counterparts may have been trained on.
    """
    return np.arange(len(ids)) if protocol == "paper" else ids


def _paper(ids, is_adversarial, correct, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(ids))
    return _train_test(order)


def _grouped(ids, is_adversarial, correct, seed: int) -> tuple[np.ndarray, np.ndarray]:
    misclassified = ids[is_adversarial & ~correct]
    images = np.intersect1d(ids[~is_adversarial & correct], misclassified)
    # Images are ordered by a key of their own, so that the test sides of several attacks, which
    # succeed on different images, share as many images as possible.
    keys = np.random.default_rng(seed).random(ids.max(initial=0) + 1)
    train, test = _train_test(images[np.argsort(keys[images], kind="stable")])
    is_used = ~is_adversarial | ~correct
    train, test = (np.flatnonzero(is_used & np.isin(ids, side)) for side in (train, test))
    return train, test


PROTOCOLS = {"paper": _paper, "grouped": _grouped}


def _train_test(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The training and the test part of a random order."""
    n_test = int(np.ceil(TEST_SHARE * len(order)))
    return order[n_test:], order[:n_test]


def missing_class(is_adversarial: np.ndarray, **sides: np.ndarray) -> str | None:
    """A sentence about the first of `sides` (row numbers) without rows of both classes, or None."""
    for name, rows in sides.items():
        for kind, present in (("adversarial", True), ("clean", False)):
            if not (is_adversarial[rows] == present).any():
                return f"the {name} side has no {kind} row"
    return None
