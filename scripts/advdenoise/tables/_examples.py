"""Example images and what became of them, as the examples stage stores them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.advdenoise import store
from scripts.advdenoise.tables import _labels
from scripts.advdenoise.threats import CLEAN, NO_PURIFIER, parse


class Maps(NamedTuple):
    """Maps of one module: of each image the channels [N,k] that the attack changes most.

    `clean`, `seen` and `purified` are [N,k,H,W].
    """

    channels: np.ndarray
    clean: np.ndarray
    seen: np.ndarray
    purified: np.ndarray


class Seen(NamedTuple):
    """Images under one point of an attack, before and behind one point of a purifier.

    `images`, `seen` and `purified` are [N,H,W,C] in [0,1]. `seen_probabilities` [N,K] are of the
    images before the purifier, `prediction` and `confidence` [N] behind it. `target` is the class
    that the attack drives all images to, None where it has none.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    target: int | None
    seen: np.ndarray
    purified: np.ndarray
    seen_probabilities: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    maps: dict[str, Maps]
    about: dict

    @property
    def is_purified(self) -> bool:
        return self.about["purifier"] != NO_PURIFIER


def read_seen(paths: list[Path], count: int | None = None) -> list[Seen]:
    """The first `count` images (all by default) of each file, once for each pair of points.

    Raises DamagedFile as `store.open_hdf5`.
    """
    return [seen for path in paths for seen in _read(path, slice(count))]


def of_one_replicate(found: list[Seen]) -> list[Seen]:
    """What differs in more than the replicate, in that of the first."""
    first: dict[tuple, Seen] = {}
    for seen in found:
        place = tuple(value for name, value in seen.about.items() if name != "seed")
        first.setdefault(place, seen)
    return list(first.values())


def _read(path: Path, rows: slice) -> list[Seen]:
    settings = store.read_provenance(path)["settings"]
    attack = parse(settings["threat"]).attack
    attack_points = ["default"] if attack == CLEAN else settings["attacks"][attack]["points"]
    about = {name: settings[name] for name in ("seed", "dataset", "split", "threat")}
    about |= {name: settings[name]["name"] for name in ("classifier", "purifier")}
    found = []
    with store.open_hdf5(path, "examples") as file:
        target = file.attrs.get("target")
        common = {
            "images": _channels_last(file["images"][rows]),
            "labels": file["labels"][rows],
            "classes": json.loads(file.attrs["classes"]),
            "target": None if target is None else int(target),
        }
        for attack_point in attack_points:
            for point in settings["purifier"]["points"]:
                group = file[f"{attack_point}/{point}"]
                names = ("seen_probabilities", "prediction", "confidence")
                seen = Seen(
                    **common,
                    **{name: _channels_last(group[name][rows]) for name in ("seen", "purified")},
                    **{name: group[name][rows] for name in names},
                    maps={name: _maps(group[f"maps/{name}"], rows) for name in settings["maps"]},
                    about=about
                    | {
                        "attack_point": attack_point,
                        "purifier_point": point,
                        "printed_attack": _printed(settings, attack, attack_point),
                    },
                )
                found.append(seen)
    return found


def _printed(settings: dict, attack: str, point: str) -> str:
    if attack == CLEAN:
        return CLEAN
    return _labels.attack(settings["attacks"][attack], point, attack)


def _maps(group, rows: slice) -> Maps:
    return Maps(*(group[name][rows] for name in Maps._fields))


def _channels_last(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, 1, -1)
