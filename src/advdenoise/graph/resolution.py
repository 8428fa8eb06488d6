"""What was chosen, put in the place of the candidates when a job runs.

Apart from `choices`, because every job imports it.
"""

from pathlib import Path
from typing import Any

from advdenoise.errors import BadInput, remedy

CHOSEN = "chosen"  # what a point's settings were, as its job tells it


def is_block(value: Any) -> bool:
    """Whether a setting's value is to be chosen."""
    return isinstance(value, dict) and "choose" in value


def resolve(settings: dict, choices: dict[Path, dict]) -> dict:
    """The settings of a job with every block replaced by what was chosen.

    `choices` are the values of the files of choices. A point says in `chosen` which of its settings
    were. Raises BadInput where a file does not hold the choice that the block asks for.
    """
    by_entry: dict[str, tuple[Path, dict]] = {}
    for path, contents in choices.items():
        if by_entry.setdefault(contents["entry"], (path, contents))[0] != path:
            raise RuntimeError(f"{contents['entry']} was chosen for two classifiers in one job")
    return _resolved(settings, by_entry)


def _resolved(value: Any, choices: dict[str, tuple[Path, dict]]) -> Any:
    if isinstance(value, list):
        return [_resolved(item, choices) for item in value]
    if not isinstance(value, dict):
        return value
    result = {name: _resolved(item, choices) for name, item in value.items()}
    settings: Any = value.get("settings")
    chosen = {n for n, v in settings.items() if is_block(v)} if isinstance(settings, dict) else ()
    if chosen:
        picked = {name: _value(name, settings[name], choices) for name in sorted(chosen)}
        result |= {"settings": result["settings"] | picked, CHOSEN: sorted(chosen)}
    return result


def _value(setting: str, block: dict, choices: dict[str, tuple[Path, dict]]) -> Any:
    name, _, point = block["of"].partition(" ")
    path, contents = choices[name]
    for choice in contents["choices"]:
        asked_for = {"point": point, "setting": setting, "by": block["by"]}
        tried = [candidate["value"] for candidate in choice["candidates"]]
        if tried == block["choose"] and asked_for.items() <= choice.items():
            return choice["value"]
    raise BadInput(
        f"{path}: holds no choice of {setting!r} of {name} {point} among {block['choose']}; "
        f"{remedy(path)}"
    )
