"""The configuration against `config/schema.yaml`: keys, types and ranges."""

import functools
import re
from pathlib import Path

from scripts.advdenoise import components
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.graph.kinds import KINDS

SCHEMA = Path(__file__).parents[3] / "config" / "schema.yaml"
_FRACTION = re.compile(r"\s*(\d+(?:\.\d*)?)\s*/\s*(\d+(?:\.\d*)?)\s*")


def with_numbers(value, key: str):
    """Fractions written as text become numbers, everywhere in the configuration."""
    if isinstance(value, dict):
        return {
            name: with_numbers(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()
        }
    if isinstance(value, list):
        return [with_numbers(item, f"{key}.{place}") for place, item in enumerate(value)]
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if float(match[2]) == 0:
        raise BadInput(f"{key}: {value!r} divides by zero; write a number")
    return float(match[1]) / float(match[2])


def leave_out_nulls(config: dict) -> None:
    """With null a file takes out what one below has: an entry, a table or figure, its crossing."""
    places = [config.get(kind) for kind in (*KINDS, "suites")]
    for experiment in _dicts(config.get("experiments")):
        for product in ("tables", "figures"):
            places += [experiment.get(product), *_dicts(experiment.get(product))]
    for entries in places:
        if isinstance(entries, dict):
            for name in [name for name, entry in entries.items() if entry is None]:
                del entries[name]


def _dicts(entries) -> list[dict]:
    """Those of a mapping's values that are mappings: the schema has not been checked yet."""
    values = entries.values() if isinstance(entries, dict) else ()
    return [value for value in values if isinstance(value, dict)]


@functools.cache
def schema() -> dict:
    """The JSON schema of the configuration."""
    import yaml

    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


@functools.cache
def _validator():
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def check_schema(config: dict) -> None:
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(config))
    if error is not None:
        raise BadInput(_sentence(error))


def _sentence(error) -> str:
    """One sentence for a schema error: the key, what is wrong, what would be right."""
    key = ".".join(str(part) for part in error.absolute_path) or "the configuration"
    found, rule = error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = next(name for name in found if name not in known)
        place = ".".join(str(part) for part in [*error.absolute_path, unknown])
        return f"{place}: unknown key; {components.suggest(unknown, known)}"
    if error.validator == "required":
        missing = next(name for name in rule if name not in found)
        return f"{key}: the key {missing!r} is missing; add it"
    if error.validator == "enum":
        return f"{key}: {found!r} is not possible; {components.suggest(found, map(str, rule))}"
    if error.validator == "type":
        wanted = " or ".join(rule) if isinstance(rule, list) else rule
        return f"{key}: must be of type {wanted}, but is {found!r}"
    if error.validator == "pattern":
        rule = error.schema.get("description", f"It must match {rule}.")
        return f"{key}: {found!r} does not fit; {rule[0].lower()}{rule[1:].rstrip('.')}"
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "greater than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    if error.validator in bounds:
        return f"{key}: must be {bounds[error.validator]} {rule}, but is {found!r}"
    if error.validator in ("minItems", "minProperties"):
        return f"{key}: must not be empty"
    if error.validator == "uniqueItems":
        return f"{key}: the same item stands in {found!r} twice"
    return f"{key}: {error.message}; {error.schema.get('description', 'see config/schema.yaml')}"
