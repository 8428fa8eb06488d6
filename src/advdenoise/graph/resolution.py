"""What was chosen, put in the place of the candidates when a job runs.

Apart from `choices`, because every job imports it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advdenoise.errors import BadInput, remedy

Settings = dict[str, Any]
# The file of choices of an entry and its contents, by the entry's name.
_ByEntry = dict[str, tuple[Path, Settings]]
CHOSEN = "chosen"  # the key of a point that lists its settings which were chosen


def is_block(value: Any) -> bool:
    """Whether a setting's value is to be chosen."""
    return isinstance(value, dict) and "choose" in value


def resolve(settings: Settings, choices: Mapping[Path, Settings]) -> Settings:
    """The settings of a job with every block replaced by what was chosen.

    `choices` are the contents of the files of choices. A point lists under `chosen` which of its
    settings were chosen. Raises BadInput where a file does not hold the choice that a block is.
    """
    by_entry: _ByEntry = {}
    for path, contents in choices.items():
        if by_entry.setdefault(contents["entry"], (path, contents))[0] != path:
            raise RuntimeError(f"{contents['entry']} was chosen for two classifiers in one job")
    return {name: _resolved(value, by_entry) for name, value in settings.items()}


def _resolved(value: Any, choices: _ByEntry) -> Any:
    if isinstance(value, list):
        return [_resolved(item, choices) for item in value]
    if not isinstance(value, dict):
        return value
    result = {name: _resolved(item, choices) for name, item in value.items()}
    settings: Any = value.get("settings")
    blocks = (
        {n: v for n, v in settings.items() if is_block(v)} if isinstance(settings, dict) else {}
    )
    if blocks:
        values = {name: _value(name, blocks[name], choices) for name in sorted(blocks)}
        result |= {"settings": result["settings"] | values, CHOSEN: sorted(blocks)}
    return result


def _value(setting: str, block: Settings, choices: _ByEntry) -> Any:
    name, _, point = block["of"].partition(" ")
    path, contents = choices[name]
    for choice in contents["choices"]:
        expected = {"point": point, "setting": setting, "by": block["by"]}
        candidates = [candidate["value"] for candidate in choice["candidates"]]
        if candidates == block["choose"] and expected.items() <= choice.items():
            return choice["value"]
    raise BadInput(
        f"{path}: holds no choice of {setting!r} of {name} {point} among {block['choose']}; "
        f"{remedy(path)}"
    )
