"""Named subsets of a data set, drawn once and the same for every seed of an experiment.

A split depends only on the names of the data set and of the split, so adding or resizing one
leaves the others as they are. A larger split contains the images of a smaller one.
"""

import hashlib

import numpy as np

from advdenoise.datasets._source import Source
from advdenoise.errors import BadInput, suggest


def draw_split(source: Source, dataset: str, split: str, splits: dict[str, dict]) -> np.ndarray:
    """The ids (int64, distinct, in random order) of a split.

    `held_out: {size}` is taken from the training part, `train: {size?}` from the rest of it,
    `test: {size?}` from the test part, any other split `{of: split, size?}` from that split;
    without `size`, all of it. `train` and `test` need no entry.

    Args:
        source: the data set.
        dataset: its name in the configuration.
        split: the split to draw.
        splits: the entry `datasets.{dataset}.splits` of the configuration.

    Raises:
        BadInput: naming the key, for a split that is unknown or larger than what it is taken from.
    """
    return _draw(source, dataset, split, splits, ())


def _draw(source, dataset, split, splits, children) -> np.ndarray:
    key = f"datasets.{dataset}.splits.{split}"
    entry = _entry(dataset, split, splits)
    n_train, n_test = len(source.train_labels), len(source.test_labels)
    if split == "held_out":
        _check_size(key, entry["size"], n_train, "the training part")
        return _order(n_train, dataset, "train")[n_train - entry["size"] :]
    if split == "train":
        # The held-out images are the end of the same order, so that a train split with a size stays
        # the same when the held-out one grows.
        has_held_out = "held_out" in splits
        held_out = len(_draw(source, dataset, "held_out", splits, ())) if has_held_out else 0
        pool = _order(n_train, dataset, "train")[: n_train - held_out]
        what = "the training part" + (" without held_out" if held_out else "")
    elif split == "test":
        pool, what = n_train + _order(n_test, dataset, "test"), "the test part"
    else:
        if split in children:
            raise BadInput(f"{key}.of: the splits {', '.join(children)} are drawn from each other")
        parent = _draw(source, dataset, entry["of"], splits, (*children, split))
        position = np.argsort(_order(n_train + n_test, dataset, split))
        pool, what = parent[np.argsort(position[parent])], f"the split {entry['of']}"
    size = entry.get("size")
    if size is None and len(pool) == 0:
        raise BadInput(f"{key}: {what} has no images; choose another split")
    if size is not None:
        _check_size(key, size, len(pool), what)
    return pool[:size]


def _entry(dataset: str, split: str, splits: dict[str, dict]) -> dict:
    entries = {"train": {}, "test": {}, **splits}
    if split not in entries:
        raise BadInput(f"datasets.{dataset}.splits: no split {split!r}; {suggest(split, entries)}")
    entry = entries[split] or {}
    required = {"held_out": "size", "train": None, "test": None}.get(split, "of")
    if required and required not in entry:
        raise BadInput(f"datasets.{dataset}.splits.{split}: needs the key {required!r}; add it")
    return entry


def _check_size(key: str, size, available: int, what: str) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BadInput(f"{key}.size: must be a whole number at least 1, got {size!r}")
    if size > available:
        raise BadInput(f"{key}.size: {size} images, but {what} has {available}; use a smaller size")


def _order(count: int, *names: str) -> np.ndarray:
    """A random order of 0 .. count - 1 that depends on count and names alone.

    `RandomState` because its streams are frozen: they are the same in every version of NumPy.
    """
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, "<u4")).permutation(count).astype(np.int64)
