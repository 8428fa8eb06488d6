"""Which rows a detector is trained and judged on.

The rows are feature vectors of clean and of adversarial images, one attack's at a time. Both
protocols set a fifth aside. `paper` is that of Al Bared and Nassar 2021: every row counts, and
an image may lie on the one side and its adversarial twin on the other. `grouped` keeps an image's
rows together and counts an attack only where it succeeded on an image that the classifier had
right; the clean twins of exactly those images are the negatives.
"""

from dataclasses import dataclass

import numpy as np

from advdenoise.errors import BadInput, suggest

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Row numbers (int64) of the two sides, and why there is nothing to measure where so."""

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
        A split whose `undefined` is a sentence where either side lacks clean or adversarial rows.

    Raises:
        BadInput: for another protocol.
    """
    if protocol not in PROTOCOLS:
        raise BadInput(
            f"detection: protocol {protocol!r} is unknown; {suggest(protocol, PROTOCOLS)}"
        )
    train, test = PROTOCOLS[protocol](ids, is_adversarial, labels == predictions, seed)
    return Split(train, test, missing_class(is_adversarial, train=train, test=test))


def units(protocol: str, ids: np.ndarray) -> np.ndarray:
    """What the protocol keeps together: each row's image, or under `paper` the row itself.

    It is what a detector's training rows may be divided by once more, and what a detector must not
    have seen in training to be judged on another attack's rows. So under `paper` such rows leak as
    much as the attack's own do: none was trained on, but their twins may have been.
    """
    return np.arange(len(ids)) if protocol == "paper" else ids


def _paper(ids, is_adversarial, correct, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(ids))
    return _ends(order)


def _grouped(ids, is_adversarial, correct, seed: int) -> tuple[np.ndarray, np.ndarray]:
    fooled = ids[is_adversarial & ~correct]
    images = np.intersect1d(ids[~is_adversarial & correct], fooled)
    # An image's place in the order is its own, so that the test sides of several attacks, whose
    # successes differ, hold the same images as far as can be.
    keys = np.random.default_rng(seed).random(ids.max(initial=0) + 1)
    train, test = _ends(images[np.argsort(keys[images], kind="stable")])
    counted = ~is_adversarial | ~correct
    fitted, judged = (np.flatnonzero(counted & np.isin(ids, side)) for side in (train, test))
    return fitted, judged


PROTOCOLS = {"paper": _paper, "grouped": _grouped}


def _ends(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train and test part of a random order."""
    tests = int(np.ceil(TEST_SHARE * len(order)))
    return order[tests:], order[:tests]


def missing_class(is_adversarial: np.ndarray, **sides: np.ndarray) -> str | None:
    """A sentence about the first of `sides` (row numbers) that has rows of one class or none."""
    for name, rows in sides.items():
        for kind, present in (("adversarial", True), ("clean", False)):
            if not (is_adversarial[rows] == present).any():
                return f"the {name} side has no {kind} row"
    return None
