"""Named subsets of a data set, drawn once and the same for every seed of an experiment.

A split depends on the names of the data set and of the split alone, so adding or resizing one
leaves the others as they are. Growing a split keeps the images that it had.
"""

import hashlib

import numpy as np

from advdenoise.datasets._source import Source
from advdenoise.errors import BadInput, suggest


def draw(source: Source, dataset: str, split: str, splits: dict[str, dict]) -> np.ndarray:
    """The ids (int64, distinct, in random order) of a split.

    `held_out: {size}` is taken from the training part, `train: {size?}` from what it leaves,
    `test: {size?}` from the test part, any other split `{of: split, size?}` from that split;
    without `size` all of it. `train` and `test` need no entry. Raises `BadInput` naming the key
    `datasets.{dataset}.splits...` where a split is unknown or asks for what is not there.
    """
    return _draw(source, dataset, split, splits, ())


def _draw(source, dataset, split, splits, above) -> np.ndarray:
    key = f"datasets.{dataset}.splits.{split}"
    entry = _entry(dataset, split, splits)
    n_train, n_test = len(source.train_labels), len(source.test_labels)
    if split == "held_out":
        _check_size(key, entry["size"], n_train, "the training part")
        return _order(n_train, dataset, "train")[n_train - entry["size"] :]
    if split == "train":
        # The held-out images are the far end of the same order: a train split with a size stays
        # the same when the held-out one grows.
        has_held_out = "held_out" in splits
        held_out = len(_draw(source, dataset, "held_out", splits, ())) if has_held_out else 0
        pool = _order(n_train, dataset, "train")[: n_train - held_out]
        what = "the training part" + (" without held_out" if held_out else "")
    elif split == "test":
        pool, what = n_train + _order(n_test, dataset, "test"), "the test part"
    else:
        if split in above:
            raise BadInput(f"{key}.of: the splits {', '.join(above)} are each cut from the other")
        parent = _draw(source, dataset, entry["of"], splits, (*above, split))
        place = np.argsort(_order(n_train + n_test, dataset, split))
        pool, what = parent[np.argsort(place[parent])], f"the split {entry['of']}"
    size = entry.get("size")
    if size is None and len(pool) == 0:
        raise BadInput(f"{key}: {what} holds no images; name another split")
    if size is not None:
        _check_size(key, size, len(pool), what)
    return pool[:size]


def _entry(dataset: str, split: str, splits: dict[str, dict]) -> dict:
    known = {"train": {}, "test": {}, **splits}
    if split not in known:
        raise BadInput(f"datasets.{dataset}.splits: no split {split!r}; {suggest(split, known)}")
    entry = known[split] or {}
    needed = {"held_out": "size", "train": None, "test": None}.get(split, "of")
    if needed and needed not in entry:
        raise BadInput(f"datasets.{dataset}.splits.{split}: needs the key {needed!r}; add it")
    return entry


def _check_size(key: str, size, there: int, what: str) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BadInput(f"{key}.size: {size!r} is no number of images; give a whole number from 1")
    if size > there:
        raise BadInput(f"{key}.size: {size} images, but {what} holds {there}; ask for fewer")


def _order(count: int, *names: str) -> np.ndarray:
    """A random order of 0 .. count - 1 that depends on count and names alone.

    `RandomState` because its streams are frozen: they are the same in every version of NumPy.
    """
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, "<u4")).permutation(count).astype(np.int64)
