import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.datasets._source import Source
from advdenoise.datasets._splits import draw
from advdenoise.errors import BadInput


def source(n_train=100, n_test=40):
    labels = np.arange(n_train) % 2, np.arange(n_test) % 2
    return Source(["a", "b"], *labels, lambda ids: np.zeros((len(ids), 1, 1, 1), np.uint8))


sizes = st.integers(2, 200)


@given(n_train=sizes, n_test=sizes, data=st.data())
def test_built_in_splits_share_the_source_among_them(n_train, n_test, data):
    held = data.draw(st.integers(1, n_train - 1))
    splits = {"held_out": {"size": held}}
    found = {
        s: draw(source(n_train, n_test), "d", s, splits) for s in ("train", "held_out", "test")
    }
    assert {s: len(ids) for s, ids in found.items()} == {
        "train": n_train - held,
        "held_out": held,
        "test": n_test,
    }
    assert sorted(np.concatenate([found["train"], found["held_out"]])) == list(range(n_train))
    assert sorted(found["test"]) == list(range(n_train, n_train + n_test))
    assert all(ids.dtype == np.int64 for ids in found.values())


@given(held=st.integers(1, 50), grown=st.integers(1, 50), size=st.integers(1, 50))
def test_resizing_one_split_leaves_the_others(held, grown, size):
    before = {"held_out": {"size": held}, "train": {"size": size}, "part": {"of": "train"}}
    after = before | {"held_out": {"size": grown}, "more": {"of": "test", "size": 3}}
    for split in ("train", "part", "test"):
        assert np.array_equal(draw(source(), "d", split, before), draw(source(), "d", split, after))
    first, second = (draw(source(), "d", "held_out", splits) for splits in (before, after))
    assert set(first) <= set(second) or set(second) <= set(first)


@given(of=st.sampled_from(["train", "held_out", "test"]), size=st.integers(1, 20))
def test_a_part_of_a_split_lies_inside_it_and_grows_with_its_images(of, size):
    splits = {"held_out": {"size": 30}, "part": {"of": of, "size": size}, "deep": {"of": "part"}}
    part = draw(source(), "d", "part", splits)
    assert len(part) == len(set(part)) == size
    assert set(part) <= set(draw(source(), "d", of, splits))
    assert set(draw(source(), "d", "deep", splits)) == set(part)
    larger = draw(source(), "d", "part", splits | {"part": {"of": of, "size": size + 1}})
    assert np.array_equal(larger[:size], part)


def test_order_is_random_and_depends_on_the_names():
    train = draw(source(), "d", "train", {})
    assert not np.array_equal(train, np.arange(100))
    assert not np.array_equal(train, draw(source(), "other", "train", {}))
    splits = {"a": {"of": "train", "size": 50}, "b": {"of": "train", "size": 50}}
    assert set(draw(source(), "d", "a", splits)) != set(draw(source(), "d", "b", splits))


def test_drawn_ids_are_the_same_for_good():
    """Frozen: adversarial sets and weights on disk are tied to these ids."""
    assert draw(source(), "digits", "train", {})[:6].tolist() == [20, 12, 61, 90, 6, 59]
    few = draw(source(), "digits", "few", {"few": {"of": "test", "size": 6}})
    assert few.tolist() == [138, 107, 116, 123, 121, 128]


@pytest.mark.parametrize(
    ("split", "splits", "message"),
    [
        (
            "held_out",
            {"held_out": {"size": 101}},
            r"\.held_out\.size: 101 images.* holds 100",
        ),
        ("held_out", {"held_out": {"size": 0}}, r"\.held_out\.size: 0 is no number"),
        ("held_out", {"held_out": {"size": True}}, r"held_out\.size: True is no number"),
        ("held_out", {"held_out": {}}, r"\.held_out: needs the key 'size'"),
        ("train", {"train": {"size": 91}, "held_out": {"size": 10}}, r"train\.size: 91.* holds 90"),
        (
            "train",
            {"held_out": {"size": 100}},
            r"\.train: .*without held_out holds no images",
        ),
        ("test", {"test": {"size": 41}}, r"\.test\.size: 41 images.*test part holds 40"),
        (
            "part",
            {"part": {"of": "test", "size": 41}},
            r"part\.size: 41 images, but the split test",
        ),
        ("part", {"part": {"size": 4}}, r"\.part: needs the key 'of'"),
        ("part", {"part": {"of": "tets"}}, r"no split 'tets'; did you mean 'test'"),
        ("a", {"a": {"of": "b"}, "b": {"of": "a"}}, r"\.a\.of: the splits a, b are each cut"),
        ("held_out", {}, "no split 'held_out'"),
    ],
)
def test_what_is_not_there_is_refused_by_its_key(split, splits, message):
    with pytest.raises(BadInput, match=rf"^datasets\.d\.splits.*{message}"):
        draw(source(), "d", split, splits)


def test_a_source_without_a_training_part():
    assert len(draw(source(n_train=0), "d", "test", {})) == 40
    with pytest.raises(BadInput, match="the training part holds no images"):
        draw(source(n_train=0), "d", "train", {})
