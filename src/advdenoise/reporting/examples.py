"""Example images and what became of them, as the examples stage stores them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.graph.threats import CLEAN, NO_PURIFIER, parse
from advdenoise.io.contents import check_lengths
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.provenance import read_provenance
from advdenoise.reporting.labels import Labels

if TYPE_CHECKING:
    import h5py


# Predictions of outputs that are not finite, of images and of pixels, and what they are called.
NO_CLASS, NO_CLASS_OF_PIXEL = -1, 255
NO_OUTPUT = "no finite output"


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
    images before the purifier, `prediction` and `confidence` [N] behind it, -1 and NaN where
    outputs are not finite. `target` is the class that the attack drives all images to, None where
    it has none, `attack` the attack's entry, None of clean images.
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
    attack: dict | None
    about: dict

    @property
    def is_purified(self) -> bool:
        return self.about["purifier"] != NO_PURIFIER

    @property
    def seen_prediction(self) -> np.ndarray:
        """The classes [N] that are predicted before the purifier, -1 as `prediction`."""
        defined = np.isfinite(self.seen_probabilities).all(1)
        return np.where(defined, self.seen_probabilities.argmax(1), NO_CLASS)

    def attack_name(self, printed: Labels) -> str:
        """The printed name of the attack."""
        if self.attack is None:
            return CLEAN
        return printed.attack(self.attack, self.about["attack_point"], self.attack["name"])

    def name(self, prediction: int) -> str:
        """What a predicted class is called."""
        return NO_OUTPUT if prediction == NO_CLASS else self.classes[prediction]


class Scenes(NamedTuple):
    """Images of a dense set under one point of an attack, before and behind a purifier's point.

    `images`, `seen` and `purified` are [N,H,W,C] in [0,1], `seen_prediction` and `prediction` the
    classes [N,H,W] that are predicted for what is seen and for what is purified, 255 where outputs
    are not finite. `attack` is the attack's entry, None of clean images.
    """

    images: np.ndarray
    classes: list[str]
    seen: np.ndarray
    purified: np.ndarray
    seen_prediction: np.ndarray
    prediction: np.ndarray
    attack: dict | None
    about: dict


def read_seen(paths: list[Path], count: int | None = None) -> list[Seen]:
    """The first `count` images (all by default) of each file, once for each pair of points.

    Raises BadInput for images with masks, DamagedFile as `open_hdf5`.
    """
    return [seen for path in paths for seen in _read(path, slice(count))]


def read_scenes(paths: list[Path], count: int | None = None) -> list[Scenes]:
    """The same of images with masks; BadInput for others."""
    return [scenes for path in paths for scenes in _read_scenes(path, slice(count))]


def of_one_replicate(found: list) -> list:
    """What differs in more than the replicate, in that of the first: `Seen` or `Scenes`."""
    first: dict[tuple, Seen | Scenes] = {}
    for seen in found:
        place = tuple(value for name, value in seen.about.items() if name != "seed")
        first.setdefault(place, seen)
    return list(first.values())


def _read(path: Path, rows: slice) -> list[Seen]:
    settings = read_provenance(path)["settings"]
    found = []
    with open_hdf5(path, "examples") as file:
        _check_kind(file, path, "labels")
        target = file.attrs.get("target")
        common = {
            "images": _channels_last(file["images"][rows]),
            "labels": file["labels"][rows],
            "classes": json.loads(file.attrs["classes"]),
            "target": None if target is None else int(target),
            "attack": settings["attacks"].get(parse(settings["threat"]).attack),
        }
        for about, group in _groups(file, settings):
            names = ("seen_probabilities", "prediction", "confidence")
            seen = Seen(
                **common,
                **{name: _channels_last(group[name][rows]) for name in ("seen", "purified")},
                **{name: group[name][rows] for name in names},
                maps={name: _maps(group[f"maps/{name}"], rows) for name in settings["maps"]},
                about=about
                | {
                    "function": settings["purifier"]["points"][about["purifier_point"]]["function"],
                },
            )
            found.append(seen)
    return found


def _read_scenes(path: Path, rows: slice) -> list[Scenes]:
    settings = read_provenance(path)["settings"]
    with open_hdf5(path, "examples") as file:
        _check_kind(file, path, "masks")
        common = {
            "images": _channels_last(file["images"][rows]),
            "classes": json.loads(file.attrs["classes"]),
            "attack": settings["attacks"].get(parse(settings["threat"]).attack),
        }
        return [
            Scenes(
                **common,
                **{name: _channels_last(group[name][rows]) for name in ("seen", "purified")},
                **{name: group[name][rows] for name in ("seen_prediction", "prediction")},
                about=about,
            )
            for about, group in _groups(file, settings)
        ]


def _groups(file, settings: dict) -> Iterator[tuple[dict, "h5py.Group"]]:
    """The names and the group of each pair of points."""
    attack = parse(settings["threat"]).attack
    attack_points = ["default"] if attack == CLEAN else settings["attacks"][attack]["points"]
    about = {name: settings[name] for name in ("seed", "dataset", "split", "threat")}
    about |= {name: settings[name]["name"] for name in ("classifier", "purifier")}
    for attack_point in attack_points:
        for point in settings["purifier"]["points"]:
            named = about | {"attack_point": attack_point, "purifier_point": point}
            yield named, file[f"{attack_point}/{point}"]


def _check_kind(file, path: Path, wanted: str) -> None:
    check_lengths(path, file)
    if wanted not in file:
        found = "masks" if wanted == "labels" else "labels"
        raise BadInput(
            f"figures: {path} holds images with {found}, but the figure shows some with {wanted}; "
            "cross another data set"
        )


def _maps(group, rows: slice) -> Maps:
    return Maps(*(group[name][rows] for name in Maps._fields))


def _channels_last(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, 1, -1)
