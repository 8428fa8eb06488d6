import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advdenoise.detectors import _protocols
from advdenoise.errors import BadInput


def rows(images=200, clean_accuracy=0.8, success=0.6, seed=0):
    """A clean and an adversarial row of each image, in random order, ids with gaps."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(10 * images, images, replace=False)
    labels = rng.integers(3, size=images)
    clean = np.where(rng.random(images) < clean_accuracy, labels, labels + 1)
    adversarial = np.where(rng.random(images) < success, labels + 1, clean)
    order = rng.permutation(2 * images)
    return {
        "ids": np.concatenate([ids, ids])[order],
        "is_adversarial": np.repeat([False, True], images)[order],
        "labels": np.concatenate([labels, labels])[order],
        "predictions": np.concatenate([clean, adversarial])[order],
    }


def test_paper_uses_a_fifth_of_all_rows_for_the_test():
    table = rows(images=200)
    split = _protocols.split("paper", **table, seed=0)
    assert (len(split.train), len(split.test)) == (320, 80)
    assert sorted([*split.train, *split.test]) == list(range(400))
    # The known leak of this protocol: images with a row on each side
    assert np.intersect1d(table["ids"][split.train], table["ids"][split.test]).size


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 60),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_grouped_uses_both_rows_of_attacked_images(images, clean_accuracy, success, seed):
    table = rows(images, clean_accuracy, success, seed)
    split = _protocols.split("grouped", **table, seed=seed)
    ids, adversarial = table["ids"], table["is_adversarial"]
    correct = table["labels"] == table["predictions"]
    assert not np.intersect1d(ids[split.train], ids[split.test]).size
    for side in (split.train, split.test):
        assert not correct[side][adversarial[side]].any()
        assert correct[side][~adversarial[side]].all()
        positives = np.sort(ids[side][adversarial[side]])
        assert np.array_equal(positives, np.sort(ids[side][~adversarial[side]]))
    used = np.intersect1d(ids[~adversarial & correct], ids[adversarial & ~correct])
    assert len(split.train) + len(split.test) == 2 * len(used)
    assert len(split.test) == 2 * np.ceil(0.2 * len(used))


@pytest.mark.parametrize("protocol", _protocols.PROTOCOLS)
def test_splits_depend_on_the_seed(protocol):
    table = rows()
    first, again, other = (_protocols.split(protocol, **table, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.test, again.test) and np.array_equal(first.train, again.train)
    assert not np.array_equal(first.test, other.test)
    assert first.undefined is None


def test_grouped_does_not_depend_on_the_order_of_rows():
    table = rows()
    order = np.random.default_rng(3).permutation(len(table["ids"]))
    shuffled = {name: column[order] for name, column in table.items()}
    split, again = (_protocols.split("grouped", **t, seed=0) for t in (table, shuffled))
    assert set(table["ids"][split.test]) == set(shuffled["ids"][again.test])


def test_two_attacks_share_most_images_of_the_test_side():
    weak, strong = rows(success=0.6), rows(success=0.6)
    adversarial = np.flatnonzero(strong["is_adversarial"])
    strong["predictions"][adversarial[::2]] = strong["labels"][adversarial[::2]] + 1
    tests = []
    for table in (weak, strong):
        split = _protocols.split("grouped", **table, seed=0)
        tests.append(set(table["ids"][split.test]))
    assert len(tests[0] & tests[1]) > 0.6 * len(tests[0])


@pytest.mark.parametrize("protocol", _protocols.PROTOCOLS)
def test_a_side_of_one_class_is_reported(protocol):
    table = rows(images=40)
    keep = ~table["is_adversarial"]
    clean = {name: column[keep] for name, column in table.items()}
    split = _protocols.split(protocol, **clean, seed=0)
    assert split.undefined == "the train side has no adversarial row"


def test_an_attack_without_success_leaves_grouped_undefined():
    split = _protocols.split("grouped", **rows(success=0.0), seed=0)
    assert split.undefined and not len(split.train) and not len(split.test)
    assert _protocols.split("paper", **rows(success=0.0), seed=0).undefined is None


def test_no_rows_are_reported():
    table = {name: column[:0] for name, column in rows().items()}
    for protocol in _protocols.PROTOCOLS:
        assert _protocols.split(protocol, **table, seed=0).undefined


def test_unknown_protocol():
    with pytest.raises(BadInput, match="did you mean 'grouped'"):
        _protocols.split("grouppd", **rows(), seed=0)
