"""Example images, attacked and purified, as the examples stage stores them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.graph.threats import CLEAN, NO_PURIFIER, parse
from advdenoise.io.contents import check_lengths
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.provenance import read_provenance
from advdenoise.reporting.labels import Labels

if TYPE_CHECKING:
    import h5py


# Predictions where outputs are not finite, of images and of pixels, and their name.
NO_CLASS, NO_CLASS_OF_PIXEL = -1, 255
NO_OUTPUT = "no finite output"
# The names of fields in the files.
_STORED = {
    "inputs": "seen",
    "input_prediction": "seen_prediction",
    "input_probabilities": "seen_probabilities",
}


class Maps(NamedTuple):
    """Maps of one module: of each image the channels [N,k] that the attack changes most.

    `clean`, `inputs` and `purified` are [N,k,H,W].
    """

    channels: np.ndarray
    clean: np.ndarray
    inputs: np.ndarray
    purified: np.ndarray


class Examples(NamedTuple):
    """Images under one point of an attack, before and behind one point of a purifier.

    `images` are clean, `inputs` attacked, `purified` behind the purifier, all [N,H,W,C] in [0,1].
    `input_probabilities` [N,K] are of `inputs`, `prediction` and `confidence` [N] of `purified`, -1
    and NaN where outputs are not finite. `target` is the target class of the attack, None for
    untargeted ones, `attack` the attack's entry, None for clean images.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    target: int | None
    inputs: np.ndarray
    purified: np.ndarray
    input_probabilities: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    maps: dict[str, Maps]
    attack: dict | None
    about: dict

    @property
    def is_purified(self) -> bool:
        return self.about["purifier"] != NO_PURIFIER

    @property
    def input_prediction(self) -> np.ndarray:
        """The classes [N] that are predicted before the purifier, -1 as `prediction`."""
        defined = np.isfinite(self.input_probabilities).all(1)
        return np.where(defined, self.input_probabilities.argmax(1), NO_CLASS)

    def attack_name(self, printed: Labels) -> str:
        """The printed name of the attack."""
        if self.attack is None:
            return CLEAN
        return printed.attack(self.attack, self.about["attack_point"])

    def name(self, prediction: int) -> str:
        """The name of a predicted class."""
        return NO_OUTPUT if prediction == NO_CLASS else self.classes[prediction]


class DenseExamples(NamedTuple):
    """Images of a dense set under one point of an attack, before and behind a purifier's point.

    `images`, `inputs` and `purified` are those of `Examples`, `input_prediction` and `prediction`
    the classes [N,H,W] predicted for `inputs` and `purified`, 255 where outputs are not finite.
    `attack` is the attack's entry, None for clean images.
    """

    images: np.ndarray
    classes: list[str]
    inputs: np.ndarray
    purified: np.ndarray
    input_prediction: np.ndarray
    prediction: np.ndarray
    attack: dict | None
    about: dict


def read_examples(paths: list[Path], count: int | None = None) -> list[Examples]:
    """The first `count` images (all by default) of each file, once for each pair of points.

    Raises BadInput for images with masks, DamagedFile as `open_hdf5`.
    """
    return [group for path in paths for group in _read(path, slice(count))]


def read_dense_examples(paths: list[Path], count: int | None = None) -> list[DenseExamples]:
    """The same of images with masks; BadInput for others."""
    return [group for path in paths for group in _read_dense(path, slice(count))]


def first_replicate(groups: list) -> list:
    """Those of the first replicate among groups that differ in nothing else."""
    first: dict[tuple, Examples | DenseExamples] = {}
    for group in groups:
        key = tuple(value for name, value in group.about.items() if name != "seed")
        first.setdefault(key, group)
    return list(first.values())


def _read(path: Path, rows: slice) -> list[Examples]:
    settings = read_provenance(path)["settings"]
    names = ("input_probabilities", "prediction", "confidence")
    with open_hdf5(path, "examples") as file:
        _check_kind(file, path, "labels")
        target = file.attrs.get("target")
        return [
            Examples(
                **_images(file, group, settings, rows),
                **_arrays(group, names, rows),
                labels=file["labels"][rows],
                target=None if target is None else int(target),
                maps={
                    name: Maps(**_arrays(group[f"maps/{name}"], Maps._fields, rows))
                    for name in settings["maps"]
                },
                about=about
                | {"function": settings["purifier"]["points"][about["purifier_point"]]["function"]},
            )
            for about, group in _groups(file, settings)
        ]


def _read_dense(path: Path, rows: slice) -> list[DenseExamples]:
    settings = read_provenance(path)["settings"]
    names = ("input_prediction", "prediction")
    with open_hdf5(path, "examples") as file:
        _check_kind(file, path, "masks")
        return [
            DenseExamples(
                **_images(file, group, settings, rows), **_arrays(group, names, rows), about=about
            )
            for about, group in _groups(file, settings)
        ]


def _images(file, group, settings: dict, rows: slice) -> dict:
    """The fields that images with labels and with masks share."""
    images = {"images": file["images"][rows], **_arrays(group, ("inputs", "purified"), rows)}
    return {
        **{name: np.moveaxis(array, 1, -1) for name, array in images.items()},
        "classes": json.loads(file.attrs["classes"]),
        "attack": settings["attacks"].get(parse(settings["threat"]).attack),
    }


def _arrays(group, names: Iterable[str], rows: slice) -> dict[str, Any]:
    return {name: group[_STORED.get(name, name)][rows] for name in names}


def _groups(file, settings: dict) -> Iterator[tuple[dict, "h5py.Group"]]:
    """The names and the group of each pair of points."""
    attack = parse(settings["threat"]).attack
    attack_points = ["default"] if attack == CLEAN else settings["attacks"][attack]["points"]
    about = {name: settings[name] for name in ("seed", "dataset", "split", "threat")}
    about |= {name: settings[name]["name"] for name in ("classifier", "purifier")}
    for attack_point in attack_points:
        for point in settings["purifier"]["points"]:
            points = {"attack_point": attack_point, "purifier_point": point}
            yield about | points, file[f"{attack_point}/{point}"]


def _check_kind(file, path: Path, kind: str) -> None:
    check_lengths(path, file)
    if kind not in file:
        other = "masks" if kind == "labels" else "labels"
        raise BadInput(
            f"figures: {path} holds images with {other}, but the figure shows some with {kind}; "
            "cross another data set"
        )
