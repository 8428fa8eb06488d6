"""Ranges of settings, declared as annotations of parameters and checked before any job starts.

A component annotates its keyword-only parameters: `steps: PositiveInt`, `alpha: StepSize`,
`momentum: Annotated[float, Interval(ge=0, lt=1)]`, `channels: tuple[Size, Size]`. Names are those
of pydantic where it has them.
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
    """The range of a number, or of the length of a list; a bound of None does not limit it.

    `multiple_of` is for whole numbers. `str(interval)` completes "must be": "at least 1", "greater
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
                raise TypeError(f"a bound must be a number, got {bound!r}")

    def __contains__(self, number: float) -> bool:
        """Whether a number is in the interval; always False for NaN."""
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
# A pixel's value, a perturbation's budget, a step size, for images in [0,1]
Pixel = Annotated[float, Interval(ge=0, le=1)]
Epsilon = Pixel
StepSize = Annotated[float, Interval(gt=0, le=1)]
# A step size as a fraction of epsilon; a step of 2 crosses the ball.
StepShare = Annotated[float, Interval(gt=0, le=2)]
# A fraction greater than 0, and one less than 1 (dropout, momentum)
Share = Annotated[float, Interval(gt=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
# Standard deviation of images in [0,1] or of noise added to them
Std = Annotated[float, Interval(gt=0, le=10)]
# An angle in degrees, in either direction
Angle = Annotated[float, Interval(ge=0, le=180)]
# Channels or nodes of a network, sides of an image; larger ones do not fit into memory.
Size = Annotated[int, Interval(ge=1, le=65536)]
# Which of its iterates an attack returns, see `attacks._iterates`
Returns = Literal["last", "best", "fooled"]
# Which loss of every pixel an attack raises, see `attacks._pixel_losses`
PixelLoss = Literal["ce", "mask_ce", "mask_ce_balanced", "segpgd", "js", "mask_spherical", "cos"]

# The range of numbers without an upper or a lower bound: that of int32 and float32
_WIDEST = {
    int: Interval(ge=-(2**31) + 1, le=2**31 - 1),
    float: Interval(ge=-3.4e38, le=3.4e38),
}
_NOT_EMPTY = Interval(ge=1)
_LISTS = (list, tuple, Sequence)
_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
    list: "a list",
    dict: "a mapping",
}


class Unchecked:
    """Replaces an annotation that is not one of a configuration's types."""


def error_message(key: str, value, annotation: Any = Any) -> str | None:
    """The message for a value that does not fit its annotation, or None.

    Annotations are built from int, float, bool, str, None, Literal, lists and tuples, dictionaries,
    unions of these and `Annotated[..., Interval(...)]`; all others accept every value. An int is
    accepted as a float; a float is not accepted as an int, even 64.0; a bool is neither. NaN and
    infinity are never accepted, nor is an empty list unless an Interval of its length contains 0.
    """
    options = [option for option in _options(annotation) if _base(option) is not Unchecked]
    if not options:
        return _not_finite(key, value)
    matching = [option for option in options if _has_type(value, option)]
    if not matching:
        types = " or ".join(dict.fromkeys(_describe(option) for option in options))
        return f"{key}: must be {types}, got {format_value(value)}{_suggestion(value, options)}"
    messages = [_error(key, value, option) for option in matching]
    return None if None in messages else messages[0]


def numbers(annotation: Any) -> Iterator[tuple[type, Interval | None]]:
    """Each int and float in an annotation, with its range or None."""
    for option in _options(annotation):
        base = _base(option)
        if base in (int, float):
            yield base, _interval(option)
        elif base in (list, dict):
            for item in _items(option):
                yield from numbers(item)


def _options(annotation: Any) -> list:
    """The members of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [option for item in typing.get_args(annotation) for option in _options(item)]
    return [annotation]


def _interval(option) -> Interval | None:
    metadata = getattr(option, "__metadata__", ())
    return next((item for item in metadata if isinstance(item, Interval)), None)


def _unwrap(option):
    """The type inside `Annotated`."""
    return option.__origin__ if typing.get_origin(option) is Annotated else option


def _base(option):
    """The type of an option: `list` for lists and tuples, `Unchecked` for unknown types."""
    option = _unwrap(option)
    origin = typing.get_origin(option) or option
    if origin is None:
        return types.NoneType
    if origin in _LISTS:
        return list
    return origin if origin in _TYPE_NAMES or origin is Literal else Unchecked


def _choices(option) -> tuple:
    """The values of a Literal."""
    return typing.get_args(_unwrap(option)) if _base(option) is Literal else ()


def _items(option) -> list:
    """The annotations of a list's items or a dictionary's values."""
    annotations = [item for item in typing.get_args(_unwrap(option)) if item is not ...]
    return annotations[1:] if _base(option) is dict else annotations


def _has_type(value, option) -> bool:
    """Whether a value has an option's type, in range or not."""
    base = _base(option)
    if base is Literal:
        return any(type(value) is type(c) and value == c for c in _choices(option))
    if base in (int, float) and isinstance(value, bool):
        return False
    if base is float:
        return isinstance(value, int | float)
    return isinstance(value, list | tuple if base is list else base)


def _error(key: str, value, option) -> str | None:
    """The message for a value of the option's type."""
    base = _base(option)
    if base in (int, float):
        return _number_error(key, value, base, _interval(option))
    if base is list:
        return _list_error(key, value, option)
    if base is dict:
        annotation = _items(option)[0] if _items(option) else Any
        return _first(error_message(f"{key}.{k}", item, annotation) for k, item in value.items())
    return None


def _number_error(key: str, value, base: type, interval: Interval | None) -> str | None:
    if not isinstance(value, int) and not math.isfinite(value):
        return f"{key}: must be a finite number, got {value}"
    for bounds in filter(None, (interval, _WIDEST[base])):
        if value not in bounds:
            return f"{key}: must be {bounds}, got {format_value(value)}"
        if not (bounds.lt is bounds.le is None or bounds.gt is bounds.ge is None):
            break
    return None


def _list_error(key: str, value, option) -> str | None:
    annotations, kind = _items(option), _unwrap(option)
    if typing.get_origin(kind) is tuple and ... not in typing.get_args(kind):
        if len(value) != len(annotations):
            return f"{key}: must have {len(annotations)} members, got {len(value)}"
    else:
        bounds = _interval(option) or _NOT_EMPTY
        if len(value) not in bounds:
            return f"{key}: the number of members must be {bounds}, got {len(value)}"
        annotations = (annotations or [Any]) * len(value)
    pairs = enumerate(zip(value, annotations, strict=True))
    return _first(error_message(f"{key}.{i}", item, kind) for i, (item, kind) in pairs)


def _not_finite(key: str, value) -> str | None:
    """The message for NaN or infinity at any depth of a value without an annotation."""
    if isinstance(value, float):
        return _number_error(key, value, float, None)
    if isinstance(value, dict):
        return _first(_not_finite(f"{key}.{name}", item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return _first(_not_finite(f"{key}.{i}", item) for i, item in enumerate(value))
    return None


def _first(messages) -> str | None:
    return next(filter(None, messages), None)


def describe(annotation: Any) -> str:
    """An annotation in words, such as "a number in [0, 1] or null"."""
    options = [option for option in _options(annotation) if _base(option) is not Unchecked]
    return " or ".join(dict.fromkeys(map(_in_full, options))) or "any value"


def _in_full(option) -> str:
    """An option in words, with the members of a list."""
    annotations, bounds = _items(option), _interval(option)
    if _base(option) is not list or not annotations:
        return _describe(option)
    kind = _unwrap(option)
    if typing.get_origin(kind) is tuple and ... not in typing.get_args(kind):
        words = list(dict.fromkeys(map(describe, annotations)))
        return (
            f"a list of {len(annotations)}, each {words[0]}"
            if len(words) == 1
            else (f"a list of {len(annotations)}: {', '.join(map(describe, annotations))}")
        )
    length = f" of {bounds.ge} to {bounds.le}" if bounds else ""
    return f"a list{length}, each {describe(annotations[0])}"


def _describe(option) -> str:
    """An option in words; a list without its members."""
    base, interval = _base(option), _interval(option)
    if base is Literal:
        return " or ".join(map(repr, _choices(option)))
    name = _TYPE_NAMES[base]
    return f"{name} {interval}" if interval and base is not list else name


def format_value(value) -> str:
    """A value for a message, as YAML writes null, true and false; long ones are shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # Python's limit for decimals
        return "a number of more than 4300 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _suggestion(value, options: list) -> str:
    """The end of a message for 64.0 instead of 64, a number read as text, or a misspelt word."""
    bases = [_base(option) for option in options]
    if int in bases and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    choices = [choice for option in options for choice in _choices(option)]
    if isinstance(value, str) and get_close_matches(value, map(str, choices)):
        return f"; {suggest(value, map(str, choices))}"
    number = parse_number(value)
    if number is None or not {int, float} & {*bases}:
        return ""
    is_count = number.is_integer() and int in bases
    return f"; write {int(number) if is_count else format_number(number)}"


def parse_number(value) -> float | None:
    """The finite number that a string contains, or None."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def format_number(number: float) -> str:
    """A number that YAML reads as one: it reads an exponent only after a decimal point."""
    text = repr(number)
    return text if "." in text else text.replace("e", ".0e")
