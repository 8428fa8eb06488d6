"""Ranges of settings, said beside the parameter and checked before any job starts.

A component annotates its keyword-only parameters: `steps: PositiveInt`, `alpha: StepSize`,
`momentum: Annotated[float, Interval(ge=0, lt=1)]`, `channels: tuple[Size, Size]`. The names are
pydantic's where it has them.
"""

import math
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from advdenoise.errors import suggest


@dataclass(frozen=True)
class Interval:
    """What a number lies in, or what the length of a list does; bounds that are None are open.

    `multiple_of` is for whole numbers. `str` gives what follows "must be": "at least 1", "greater
    than 0", "in (0, 1]".
    """

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    multiple_of: int | None = None

    def __post_init__(self):
        for bound in (self.gt, self.ge, self.lt, self.le):
            if bound is not None and not isinstance(bound, int | float):
                raise TypeError(f"a bound is {bound!r} and no number")

    def __contains__(self, number: float) -> bool:
        """False for NaN, whatever the bounds."""
        return (
            (self.gt is None or number > self.gt)
            and (self.ge is None or number >= self.ge)
            and (self.lt is None or number < self.lt)
            and (self.le is None or number <= self.le)
            and (self.multiple_of is None or number % self.multiple_of == 0)
            and number == number
        )

    def __str__(self) -> str:
        multiple = f" and a multiple of {self.multiple_of}" if self.multiple_of else ""
        return self._bounds() + multiple

    def _bounds(self) -> str:
        lower = self.ge if self.gt is None else self.gt
        upper = self.le if self.lt is None else self.lt
        if upper is None:
            return f"at least {lower}" if self.gt is None else f"greater than {lower}"
        if lower is None:
            return f"at most {upper}" if self.lt is None else f"less than {upper}"
        opening, closing = "[" if self.gt is None else "(", "]" if self.lt is None else ")"
        return f"in {opening}{lower}, {upper}{closing}"


PositiveInt = Annotated[int, Interval(ge=1)]
NonNegativeInt = Annotated[int, Interval(ge=0)]
PositiveFloat = Annotated[float, Interval(gt=0)]
NonNegativeFloat = Annotated[float, Interval(ge=0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
# A pixel's value, a perturbation's budget, the length of a step: in pixels of [0,1].
Pixel = Annotated[float, Interval(ge=0, le=1)]
Epsilon = Pixel
StepSize = Annotated[float, Interval(gt=0, le=1)]
# A step as a part of epsilon: one of 2 crosses the ball.
StepShare = Annotated[float, Interval(gt=0, le=2)]
# A part of a whole that is not empty, and one that leaves something: dropout, momentum.
Share = Annotated[float, Interval(gt=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
# Standard deviation of images in [0,1] or of noise on them.
Std = Annotated[float, Interval(gt=0, le=10)]
# Degrees either way.
Angle = Annotated[float, Interval(ge=0, le=180)]
# Channels and nodes of a network, sides of an image: more would fit into no memory.
Size = Annotated[int, Interval(ge=1, le=65536)]

# What a number without an upper or a lower bound may be: tensors hold no larger ones.
_WIDEST = {
    int: Interval(ge=-(2**31) + 1, le=2**31 - 1),
    float: Interval(ge=-3.4e38, le=3.4e38),
}
_NOT_EMPTY = Interval(ge=1)
_LISTS = (list, tuple, Sequence)
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
    list: "a list",
    dict: "a mapping",
}


class Other:
    """Stands for an annotation that is no plain value of a configuration."""


def fault(key: str, value, kind: Any = Any) -> str | None:
    """The sentence about a value that does not fit its annotation; None where it fits.

    `kind` is built from int, float, bool, str, None, Literal, lists and tuples, dictionaries,
    unions of these and `Annotated[..., Interval(...)]`; anything else takes every value. A whole
    number is a number; a float is no whole number, even 64.0; a bool is neither. NaN and infinity
    are refused in all of them, an empty list unless an Interval of its length holds 0.
    """
    options = [option for option in _options(kind) if _base(option) is not Other]
    if not options:
        return _not_finite(key, value)
    near = [option for option in options if _is_of(value, option)]
    if not near:
        words = " or ".join(dict.fromkeys(_describe(option) for option in options))
        return f"{key}: must be {words}, but is {shown(value)}{_remedy(value, options)}"
    sentences = [_fault(key, value, option) for option in near]
    return None if None in sentences else sentences[0]


def numbers(kind: Any) -> Iterator[tuple[type, Interval | None]]:
    """Every int and float that an annotation holds, with its range or None."""
    for option in _options(kind):
        base = _base(option)
        if base in (int, float):
            yield base, _interval(option)
        elif base in (list, dict):
            for item in _items(option):
                yield from numbers(item)


def _options(kind: Any) -> list:
    """The members of a union, or the annotation itself."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [option for item in typing.get_args(kind) for option in _options(item)]
    return [kind]


def _interval(option) -> Interval | None:
    more = getattr(option, "__metadata__", ())
    return next((item for item in more if isinstance(item, Interval)), None)


def _bare(option):
    return option.__origin__ if typing.get_origin(option) is Annotated else option


def _base(option):
    """The plain type of an option: `list` of every kind of list, `Other` of what is unknown."""
    option = _bare(option)
    origin = typing.get_origin(option) or option
    if origin is None:
        return types.NoneType
    if origin in _LISTS:
        return list
    return origin if origin in _WORDS or origin is Literal else Other


def _choices(option) -> tuple:
    """What a Literal lists."""
    return typing.get_args(_bare(option)) if _base(option) is Literal else ()


def _items(option) -> list:
    """The annotations of a list's items or a dictionary's values."""
    annotations = [item for item in typing.get_args(_bare(option)) if item is not ...]
    return annotations[1:] if _base(option) is dict else annotations


def _is_of(value, option) -> bool:
    """Whether a value is of an option's plain type, in range or not."""
    base = _base(option)
    if base is Literal:
        return any(type(value) is type(c) and value == c for c in _choices(option))
    if base in (int, float) and isinstance(value, bool):
        return False
    if base is float:
        return isinstance(value, int | float)
    return isinstance(value, list | tuple if base is list else base)


def _fault(key: str, value, option) -> str | None:
    """The sentence about a value of the right plain type."""
    base = _base(option)
    if base in (int, float):
        return _number_fault(key, value, base, _interval(option))
    if base is list:
        return _list_fault(key, value, option)
    if base is dict:
        kind = _items(option)[0] if _items(option) else Any
        return _first(fault(f"{key}.{name}", item, kind) for name, item in value.items())
    return None


def _number_fault(key: str, value, base: type, interval: Interval | None) -> str | None:
    if not isinstance(value, int) and not math.isfinite(value):
        return f"{key}: must be a finite number, but is {value}"
    for bounds in filter(None, (interval, _WIDEST[base])):
        if value not in bounds:
            return f"{key}: must be {bounds}, but is {shown(value)}"
        if not (bounds.lt is bounds.le is None or bounds.gt is bounds.ge is None):
            break
    return None


def _list_fault(key: str, value, option) -> str | None:
    kinds, bare = _items(option), _bare(option)
    if typing.get_origin(bare) is tuple and ... not in typing.get_args(bare):
        if len(value) != len(kinds):
            return f"{key}: must have {len(kinds)} members, but has {len(value)}"
    else:
        bounds = _interval(option) or _NOT_EMPTY
        if len(value) not in bounds:
            return f"{key}: the number of members must be {bounds}, but is {len(value)}"
        kinds = (kinds or [Any]) * len(value)
    pairs = enumerate(zip(value, kinds, strict=True))
    return _first(fault(f"{key}.{place}", item, kind) for place, (item, kind) in pairs)


def _not_finite(key: str, value) -> str | None:
    """The sentence about a number that is none, at any depth of a value without annotation."""
    if isinstance(value, float):
        return _number_fault(key, value, float, None)
    if isinstance(value, dict):
        return _first(_not_finite(f"{key}.{name}", item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return _first(_not_finite(f"{key}.{place}", item) for place, item in enumerate(value))
    return None


def _first(sentences) -> str | None:
    return next(filter(None, sentences), None)


def describe(kind: Any) -> str:
    """What an annotation lets a setting be: "a number in [0, 1] or null"."""
    options = [option for option in _options(kind) if _base(option) is not Other]
    return " or ".join(dict.fromkeys(map(_in_full, options))) or "any value"


def _in_full(option) -> str:
    """An option with its members, where it is a list."""
    kinds, bounds = _items(option), _interval(option)
    if _base(option) is not list or not kinds:
        return _describe(option)
    if typing.get_origin(_bare(option)) is tuple and ... not in typing.get_args(_bare(option)):
        words = list(dict.fromkeys(map(describe, kinds)))
        return (
            f"a list of {len(kinds)}, each {words[0]}"
            if len(words) == 1
            else (f"a list of {len(kinds)}: {', '.join(map(describe, kinds))}")
        )
    length = f" of {bounds.ge} to {bounds.le}" if bounds else ""
    return f"a list{length}, each {describe(kinds[0])}"


def _describe(option) -> str:
    base, interval = _base(option), _interval(option)
    if base is Literal:
        return " or ".join(map(repr, _choices(option)))
    return f"{_WORDS[base]} {interval}" if interval and base is not list else _WORDS[base]


def shown(value) -> str:
    """A value as a part of a sentence: null for None, the beginning of a long one."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # Python writes no longer ones in decimals
        return "a number of more than 4300 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _remedy(value, options: list) -> str:
    """What to write for a float that is meant as a count, a number read as text, a near word."""
    bases = [_base(option) for option in options]
    if int in bases and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    choices = [choice for option in options for choice in _choices(option)]
    if isinstance(value, str) and get_close_matches(value, map(str, choices)):
        return f"; {suggest(value, map(str, choices))}"
    number = number_in(value)
    if number is None or not {int, float} & {*bases}:
        return ""
    return f"; write {int(number) if number.is_integer() and int in bases else written(number)}"


def number_in(value) -> float | None:
    """The finite number that a text holds, if it does."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def written(number: float) -> str:
    """A number as YAML reads one: it takes an exponent for part of it only behind a point."""
    text = repr(number)
    return text if "." in text else text.replace("e", ".0e")
