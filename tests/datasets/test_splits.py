import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.datasets._source import Source
from advdenoise.datasets._splits import draw_split
from advdenoise.errors import BadInput


def source(n_train=100, n_test=40):
    labels = np.arange(n_train) % 2, np.arange(n_test) % 2
    return Source(["a", "b"], *labels, lambda ids: np.zeros((len(ids), 1, 1, 1), np.uint8))


sizes = st.integers(2, 200)


@given(n_train=sizes, n_test=sizes, data=st.data())
def test_built_in_splits_partition_the_source(n_train, n_test, data):
    held_out = data.draw(st.integers(1, n_train - 1))
    splits = {"held_out": {"size": held_out}}
    data_set = source(n_train, n_test)
    names = ("train", "held_out", "test")
    ids_of = {name: draw_split(data_set, "d", name, splits) for name in names}
    assert {s: len(ids) for s, ids in ids_of.items()} == {
        "train": n_train - held_out,
        "held_out": held_out,
        "test": n_test,
    }
    assert sorted(np.concatenate([ids_of["train"], ids_of["held_out"]])) == list(range(n_train))
    assert sorted(ids_of["test"]) == list(range(n_train, n_train + n_test))
    assert all(ids.dtype == np.int64 for ids in ids_of.values())


@given(held_out=st.integers(1, 50), larger=st.integers(1, 50), size=st.integers(1, 50))
def test_resizing_one_split_leaves_the_others(held_out, larger, size):
    before = {"held_out": {"size": held_out}, "train": {"size": size}, "part": {"of": "train"}}
    after = before | {"held_out": {"size": larger}, "more": {"of": "test", "size": 3}}
    for split in ("train", "part", "test"):
        ids = [draw_split(source(), "d", split, splits) for splits in (before, after)]
        assert np.array_equal(*ids)
    first, second = (draw_split(source(), "d", "held_out", splits) for splits in (before, after))
    assert set(first) <= set(second) or set(second) <= set(first)


@given(of=st.sampled_from(["train", "held_out", "test"]), size=st.integers(1, 20))
def test_a_subset_of_a_split_contains_its_smaller_subsets(of, size):
    splits = {"held_out": {"size": 30}, "part": {"of": of, "size": size}, "deep": {"of": "part"}}
    part = draw_split(source(), "d", "part", splits)
    assert len(part) == len(set(part)) == size
    assert set(part) <= set(draw_split(source(), "d", of, splits))
    assert set(draw_split(source(), "d", "deep", splits)) == set(part)
    larger = draw_split(source(), "d", "part", splits | {"part": {"of": of, "size": size + 1}})
    assert np.array_equal(larger[:size], part)


def test_order_is_random_and_depends_on_the_names():
    train = draw_split(source(), "d", "train", {})
    assert not np.array_equal(train, np.arange(100))
    assert not np.array_equal(train, draw_split(source(), "other", "train", {}))
    splits = {"a": {"of": "train", "size": 50}, "b": {"of": "train", "size": 50}}
    first, second = (draw_split(source(), "d", name, splits) for name in "ab")
    assert set(first) != set(second)


def test_ids_do_not_change_between_versions():
    """Adversarial sets and weights on disk depend on these ids."""
    assert draw_split(source(), "digits", "train", {})[:6].tolist() == [20, 12, 61, 90, 6, 59]
    few = draw_split(source(), "digits", "few", {"few": {"of": "test", "size": 6}})
    assert few.tolist() == [138, 107, 116, 123, 121, 128]


@pytest.mark.parametrize(
    ("split", "splits", "message"),
    [
        (
            "held_out",
            {"held_out": {"size": 101}},
            r"\.held_out\.size: 101 images.* has 100",
        ),
        ("held_out", {"held_out": {"size": 0}}, r"\.held_out\.size: must be .* at least 1, got 0"),
        ("held_out", {"held_out": {"size": True}}, r"held_out\.size: must be .* got True"),
        ("held_out", {"held_out": {}}, r"\.held_out: needs the key 'size'"),
        ("train", {"train": {"size": 91}, "held_out": {"size": 10}}, r"train\.size: 91.* has 90"),
        (
            "train",
            {"held_out": {"size": 100}},
            r"\.train: .*without held_out has no images",
        ),
        ("test", {"test": {"size": 41}}, r"\.test\.size: 41 images.*test part has 40"),
        (
            "part",
            {"part": {"of": "test", "size": 41}},
            r"part\.size: 41 images, but the split test",
        ),
        ("part", {"part": {"size": 4}}, r"\.part: needs the key 'of'"),
        ("part", {"part": {"of": "tets"}}, r"no split 'tets'; did you mean 'test'"),
        ("a", {"a": {"of": "b"}, "b": {"of": "a"}}, r"\.a\.of: the splits a, b are drawn from"),
        ("held_out", {}, "no split 'held_out'"),
    ],
)
def test_invalid_splits_raise_with_their_key(split, splits, message):
    with pytest.raises(BadInput, match=rf"^datasets\.d\.splits.*{message}"):
        draw_split(source(), "d", split, splits)


def test_a_source_without_a_training_part():
    assert len(draw_split(source(n_train=0), "d", "test", {})) == 40
    with pytest.raises(BadInput, match="the training part has no images"):
        draw_split(source(n_train=0), "d", "train", {})
