"""The configuration against `config/schema.yaml`: keys, types and ranges."""

import functools
import math
import re
from pathlib import Path
from typing import Any

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.sections.common import KINDS
from advdenoise.ranges import format_number, format_value, parse_number

SCHEMA = Path(__file__).parents[3] / "config" / "schema.yaml"
_TYPES = {
    "integer": "a whole number",
    "number": "a finite number",
    "string": "a text",
    "array": "a list",
    "object": "a mapping of keys to values",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "greater than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_FRACTION = re.compile(r"\s*(\d+(?:\.\d*)?)\s*/\s*(\d+(?:\.\d*)?)\s*")


def with_numbers(value: Any, key: str) -> Any:
    """Fractions written as text become numbers, epochs that are keys become text, everywhere."""
    if isinstance(value, dict):
        mapping = {}
        for name, item in value.items():
            place = f"{key}.{name}".lstrip(".")
            if type(name) not in (str, int) or not str(name).isprintable():
                raise BadInput(
                    f"{key or 'the configuration'}: the key {format_value(name)} is neither a "
                    f"name nor a whole number; write one of these{_quotes(name)}"
                )
            if str(name) in mapping:
                raise BadInput(f"{place}: the key is given twice; give it once")
            mapping[str(name)] = with_numbers(item, place)
        return mapping
    if isinstance(value, list):
        return [with_numbers(item, f"{key}.{place}") for place, item in enumerate(value)]
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if float(match[2]) == 0:
        raise BadInput(f"{key}: {value!r} divides by zero; write a number")
    return float(match[1]) / float(match[2])


def leave_out_nulls(config: dict[str, Any]) -> None:
    """With null a file takes out what one below has.

    That is an entry, a key of a network's entry, a table or figure, or its crossing.
    """
    places = [config.get(kind) for kind in (*KINDS, "suites")]
    places += [entry for kind in ("classifiers", "denoisers") for entry in _dicts(config.get(kind))]
    for experiment in _dicts(config.get("experiments")):
        for product in ("tables", "figures"):
            places += [experiment.get(product), *_dicts(experiment.get(product))]
    for entries in places:
        if isinstance(entries, dict):
            for name in [name for name, entry in entries.items() if entry is None]:
                del entries[name]


def _dicts(entries: Any) -> list[dict[str, Any]]:
    """Those of a mapping's values that are mappings: the schema has not been checked yet."""
    values = entries.values() if isinstance(entries, dict) else ()
    return [value for value in values if isinstance(value, dict)]


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    contents: dict[str, Any] = yaml.load(SCHEMA.read_text(encoding="utf-8"), Loader=loader)
    return contents


@functools.cache
def _validator() -> Any:
    """Of JSON schema's types two are narrower here: 64.0 is no whole number, infinity none."""
    import jsonschema

    draft = jsonschema.Draft202012Validator
    checker = draft.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: _is_finite(value),
        }
    )
    return jsonschema.validators.extend(draft, type_checker=checker)(schema())


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def check_schema(config: dict[str, Any]) -> None:
    """Raise BadInput with the first mistake against the schema, in one sentence."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(config))
    if error is not None:
        raise BadInput(_sentence(error))


def _sentence(error: Any) -> str:
    """One sentence for a schema error: the key, what is wrong, what would be right."""
    key = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    value, rule = error.instance, error.validator_value
    text = format_value(value)
    if error.validator == "additionalProperties":
        keys = error.schema.get("properties", {})
        unknown = next(name for name in value if name not in keys)
        place = ".".join(str(part) for part in [*error.absolute_path, unknown])
        return f"{place}: unknown key; {suggest(unknown, keys)}"
    if error.validator == "required":
        missing = next(name for name in rule if name not in value)
        return f"{key}: the key {missing!r} is missing; add it"
    if error.validator == "enum":
        return f"{key}: {text} is not possible; {suggest(value, map(str, rule))}"
    if error.validator == "const":
        return f"{key}: {text} is not possible; write {rule}"
    if error.validator == "type":
        expected = " or ".join(_TYPES[name] for name in ([rule] if isinstance(rule, str) else rule))
        return f"{key}: must be {expected}, got {text}; {_remedy(value, expected)}"
    if error.validator == "pattern":
        rule = error.schema.get("description", f"It must match {rule}.")
        return f"{key}: {text} does not fit; {rule[0].lower()}{rule[1:].rstrip('.')}"
    if error.validator in _BOUNDS:
        return f"{key}: must be {_BOUNDS[error.validator]} {rule}, got {text}"
    if error.validator in ("minItems", "minProperties", "minLength") and not value:
        return f"{key}: must not be empty; add an item or take the key out"
    if error.validator in ("minItems", "maxItems"):
        return f"{key}: must hold {rule} items, got {len(value)}; write {rule}"
    if error.validator == "maxLength":
        return f"{key}: {text} has {len(value)} characters; take at most {rule}, for file names"
    if error.validator == "not":
        return f"{key}: {text} repeats itself, as no file's name may here; take another name"
    if error.validator == "uniqueItems":
        return f"{key}: the same item stands in {text} twice; take one out"
    if error.validator == "anyOf":
        rule = error.schema.get("description", "see config/schema.yaml")
        return f"{key}: {text} is not possible; write {rule[0].lower()}{rule[1:].rstrip('.')}"
    return f"{key}: {error.message}; {error.schema.get('description', 'see config/schema.yaml')}"


def _quotes(value: Any) -> str:
    yes = "; YAML reads yes, no, on and off as true and false: write them in quotes"
    return yes if isinstance(value, bool) else ""


def _remedy(value: Any, expected: str) -> str:
    """What would be right in the place of a value of another type."""
    if value is None:
        return f"write {expected} or take the key out"
    if isinstance(value, bool):
        return f"write {expected}{_quotes(value)}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    number = parse_number(value)
    if number is not None and "number" in expected:
        return f"write {format_number(number)} without quotes"
    if expected == _TYPES["array"] and not isinstance(value, dict):
        return f"write [{value}]"
    return f"write {expected}"
