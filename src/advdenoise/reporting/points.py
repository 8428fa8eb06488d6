"""Points of entries: their settings, defaults included, as text."""

from advdenoise.graph import components


def with_defaults(kind: str, point: dict) -> dict:
    """A point with the defaults of the settings that it leaves out."""
    defaults = components.signature(kind, kind, point["function"]).defaults
    return {**point, "settings": defaults | point.get("settings", {})}


def differing(points: list[dict]) -> list[str]:
    """The settings in which points of one function, defaults included, differ."""
    names = dict.fromkeys(name for point in points for name in point["settings"])
    values = {name: [point["settings"].get(name) for point in points] for name in names}
    return [name for name, (first, *others) in values.items() if any(v != first for v in others)]


def shown(point: dict, names: list[str]) -> str:
    """Some settings of a point as text, such as `steps = 12`."""
    return ", ".join(f"{name} = {value_text(point['settings'].get(name))}" for name in names)


def value_text(value) -> str:
    """A setting's value as text, numbers with four digits."""
    if value is None:
        return "not set"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.4g}" if is_number else str(value)
