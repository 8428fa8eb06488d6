"""Ranges of settings and the messages for values outside of them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
import yaml

from advdenoise import ranges
from advdenoise.ranges import (
    Interval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Size,
    StepSize,
    Unchecked,
    error_message,
    format_number,
)

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("interval", "words", "inside", "outside"),
    [
        (Interval(ge=1), "at least 1", [1, 2, INF], [0, 0.999, -1, NAN]),
        (Interval(gt=0), "greater than 0", [1e-300, 5], [0, -0.0, -1, NAN]),
        (Interval(le=3), "at most 3", [3, -INF], [3.001, NAN]),
        (Interval(lt=3), "less than 3", [2.999], [3, NAN]),
        (Interval(gt=0, le=1), "in (0, 1]", [0.5, 1], [0, 1.001, NAN]),
        (Interval(ge=0, lt=1), "in [0, 1)", [0, 0.999], [1, -1e-9, NAN]),
        (Interval(ge=1, le=65536), "in [1, 65536]", [1, 65536], [0, 65537]),
    ],
)
def test_intervals(interval, words, inside, outside):
    assert str(interval) == words
    assert all(number in interval for number in inside)
    assert not any(number in interval for number in outside)


VALID = [
    (PositiveInt, [1, 2**31 - 1]),
    (NonNegativeInt | None, [0, None]),
    (PositiveFloat, [1, 0.5, 3e38]),
    (NonNegativeFloat, [0, 0.0]),
    (Probability, [0, 1, 0.5]),
    (Annotated[int, Interval(ge=0, le=10**12)], [10**12]),
    (Literal["scale"] | PositiveFloat, ["scale", 3]),
    (list[PositiveInt], [[1], [1, 2], (3,)]),
    (Annotated[list[PositiveInt], Interval(ge=0, le=2)], [[], [1, 2]]),
    (tuple[Size, Size], [[1, 2]]),
    (tuple[Size, ...], [[1, 2, 3]]),
    (PositiveInt | Sequence[PositiveInt], [1, [1, 2]]),
    (dict[str, Probability], [{}, {"a": 1}]),
    (PositiveFloat | Unchecked, [0.5]),
    (Literal[4, 8], [4]),
    (list, [[1, "a", None]]),
    (Any, [1, None, "a", [1.5, {"b": True}]]),
    (list[Unchecked], [["x", 3]]),
    (bool, [True, False]),
]


@pytest.mark.parametrize(("kind", "values"), VALID)
def test_valid_values(kind, values):
    assert [error_message("key", value, kind) for value in values] == [None] * len(values)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (PositiveInt, 0, "key: must be at least 1, got 0"),
        (int, 2**31, "key: must be in [-2147483647, 2147483647], got 2147483648"),
        (PositiveInt, 10**15, "key: must be in [-2147483647, 2147483647], got 1000000000000000"),
        (Size, 10**15, "key: must be in [1, 65536], got 1000000000000000"),
        (int, 64.0, "key: must be a whole number, got 64.0; write 64"),
        (int, 64.5, "key: must be a whole number, got 64.5"),
        (int, NAN, "key: must be a whole number, got nan"),
        (int, True, "key: must be a whole number, got true"),
        (float, True, "key: must be a number, got true"),
        (float, "1e-3", "key: must be a number, got '1e-3'; write 0.001"),
        (float, "1e-6", "key: must be a number, got '1e-6'; write 1.0e-06"),
        (int, "1e3", "key: must be a whole number, got '1e3'; write 1000"),
        (float, "nan", "key: must be a number, got 'nan'"),
        (bool, 1, "key: must be true or false, got 1"),
        (str, None, "key: must be text, got null"),
        (PositiveFloat, -INF, "key: must be a finite number, got -inf"),
        (PositiveFloat, 1e300, "key: must be in [-3.4e+38, 3.4e+38], got 1e+300"),
        (StepSize, 8, "key: must be in (0, 1], got 8"),
        (PositiveInt | None, "no", "key: must be a whole number at least 1 or null, got 'no'"),
        (Literal["scale"] | PositiveFloat, -1, "key: must be greater than 0, got -1"),
        (
            Literal["scale"] | float,
            "scal",
            "key: must be 'scale' or a number, got 'scal'; did you mean 'scale'?",
        ),
        (
            Literal["a"] | PositiveInt,
            "foo",
            "key: must be 'a' or a whole number at least 1, got 'foo'",
        ),
        (Literal["l1", "l2"], 2, "key: must be 'l1' or 'l2', got 2"),
        (Literal[4, 8], 4.0, "key: must be 4 or 8, got 4.0"),
        (
            Annotated[int, Interval(ge=4, multiple_of=2)],
            5,
            "key: must be at least 4 and a multiple of 2, got 5",
        ),
        (Literal["scale"] | float, None, "key: must be 'scale' or a number, got null"),
        (list[PositiveInt], [], "key: the number of members must be at least 1, got 0"),
        (list[PositiveInt], [1, -4], "key.1: must be at least 1, got -4"),
        (list[PositiveInt], 3, "key: must be a list, got 3"),
        (
            Annotated[list[int], Interval(ge=1, le=2)],
            [1, 2, 3],
            "key: the number of members must be in [1, 2], got 3",
        ),
        (tuple[Size, Size], [1, 2, 3], "key: must have 2 members, got 3"),
        (PositiveInt | list[PositiveInt], [0], "key.0: must be at least 1, got 0"),
        (dict[str, Probability], {"a": 2}, "key.a: must be in [0, 1], got 2"),
        (list, [[1, NAN]], "key.0.1: must be a finite number, got nan"),
        (dict, {"a": [INF]}, "key.a.0: must be a finite number, got inf"),
        (Any, NAN, "key: must be a finite number, got nan"),
        (str, 5, "key: must be text, got 5"),
    ],
)
def test_invalid_values(kind, value, message):
    assert error_message("key", value, kind) == message


@pytest.mark.parametrize("number", [1e-3, 1e-6, 2.5e-7, 1e22, -3e-9, 64.0, 0.1])
def test_formatted_numbers_are_read_by_yaml(number):
    assert yaml.safe_load(format_number(number)) == number


def test_long_values_are_shortened():
    message = error_message("key", 10**5000, Size)
    assert message == "key: must be in [1, 65536], got a number of more than 4300 digits"
    assert len(error_message("key", ["x" * 500] * 90, int)) < 140


def test_numbers_of_an_annotation_have_their_ranges():
    kind = Literal["a"] | PositiveInt | list[float] | tuple[Size, ...] | dict[str, Probability]
    result = dict.fromkeys((base, str(interval)) for base, interval in ranges.numbers(kind))
    assert list(result) == [
        (int, "at least 1"),
        (float, "None"),
        (int, "in [1, 65536]"),
        (float, "in [0, 1]"),
    ]
