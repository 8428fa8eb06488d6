"""Unit costs of a machine, as `tools.plan.unit_costs` measured them."""

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

from advdenoise.errors import BadInput, DamagedFile, suggest
from advdenoise.io.json_files import read_json, write_json
from advdenoise.ops.system import Refusal
from tools.plan.work import PASSING, NotMeasured, Thing, Use

CPU = "cpu"
FOLDER = Path("benchmarks/units")


class Cost(NamedTuple):
    """Seconds of one use, and the factor by which repetitions of the measurement differed.

    Where the cost depends on rows, `seconds` are those of `rows` rows and others cost
    (their number / rows) ** power times that.
    """

    seconds: float
    factor: float
    rows: int = 0
    power: float = 0.0

    def of(self, rows: int) -> float:
        return self.seconds * (rows / self.rows) ** self.power if self.rows else self.seconds


class Units:
    """The unit costs of the planned device, and of any machine for what needs no GPU."""

    def __init__(self, files: list[dict], device: str | None = None):
        """Files as `write` takes them, the latest first; by default a GPU is planned for, if any.

        Raises BadInput where no file is of `device`.
        """
        devices = [file["device"] for file in files]
        if device is None:
            device = next((name for name in devices if name != CPU), CPU)
        elif device not in devices:
            raise BadInput(f"device: {device!r} was not measured; {suggest(device, devices)}")
        self.device, self.devices = device, devices
        files = sorted(files, key=lambda file: file["device"] != device)
        self._own = files[0]["things"] if device in devices else {}
        self._all = [file["things"] for file in files]

    def cost(self, use: Use) -> Cost:
        """Raises NotMeasured."""
        places = [self._own] if use.what in PASSING else self._all
        for things in places:
            if cost := things.get(use.thing.key, {}).get("costs", {}).get(use.what):
                return Cost(**cost)
        raise NotMeasured(use.thing.key)

    def fact(self, thing: Thing, name: str) -> float:
        """Raises NotMeasured."""
        for things in self._all:
            if name in things.get(thing.key, {}):
                return things[thing.key][name]
        raise NotMeasured(thing.key)


def path_of(device: str, folder: Path = FOLDER) -> Path:
    return folder / f"{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def read(folder: Path = FOLDER) -> list[dict]:
    """All files of unit costs, the latest first; DamagedFile for one that is none."""
    paths = sorted(folder.glob("*.json"), key=lambda path: -path.lstat().st_mtime)
    return [_read(path) for path in paths]


def _read(path: Path) -> dict:
    try:
        value = read_json(path)
        costs = [cost for thing in value["things"].values() for cost in thing["costs"].values()]
        whole = isinstance(value["device"], str) and all(map(_is_cost, costs))
    except Refusal:
        raise
    except (BadInput, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DamagedFile(
            f"{path}: is damaged and holds no unit costs; delete it and run "
            "`python -m tools.plan.unit_costs`"
        )
    return value


def _is_cost(cost: dict) -> bool:
    numbers = Cost(**cost)
    return all(math.isfinite(number) for number in numbers) and min(numbers[:3]) >= 0


def write(device: str, things: dict, provenance: dict, folder: Path = FOLDER) -> Path:
    """Update the device's file with new measurements.

    `things` holds by key the facts of a thing and its `costs`, by use, as `Cost` has them.
    """
    path = path_of(device, folder)
    stored = _read(path)["things"] if os.path.lexists(path) else {}
    for key, measured in things.items():
        costs = stored.get(key, {}).get("costs", {}) | measured["costs"]
        stored[key] = stored.get(key, {}) | measured | {"costs": costs}
    write_json(path, {"device": device, "things": stored}, provenance)
    return path
