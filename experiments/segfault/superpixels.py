"""ExampleImage images with their superpixels, as the examples stage stores them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.io.contents import check_lengths
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.provenance import read_provenance


class ExampleImage(NamedTuple):
    """An image [H,W,C] in [0,1] under its class's printed name, and its label maps by setting.

    `index` is its place in the file; `maps` holds a point of an attribution entry (`function`,
    `settings`) and labels [H,W] each.
    """

    index: int
    name: str
    image: np.ndarray
    maps: list[tuple[dict, np.ndarray]]
    about: dict


def read_superpixels(paths: list[Path], method: str) -> list[ExampleImage]:
    """All images of the files with their superpixels of one method, such as `slic`.

    Images that differ only in the replicate are taken once: superpixels do not depend on it.
    Raises BadInput where there are no such superpixels, DamagedFile as `open_hdf5`.
    """
    by_classifier: dict[tuple, list[ExampleImage]] = {}
    for path in paths:
        settings = read_provenance(path)["settings"]
        about = {"dataset": settings["dataset"], "classifier": settings["classifier"]["name"]}
        if tuple(about.values()) not in by_classifier:
            by_classifier[tuple(about.values())] = _examples(
                path, settings["superpixels"], method, about
            )
    examples = [example for some in by_classifier.values() for example in some]
    if not any(example.maps for example in examples):
        raise BadInput(
            f"examples.superpixels: no attribution named there has superpixels by {method} for "
            "these images; add one that has"
        )
    return examples


def _examples(path: Path, entries: dict, method: str, about: dict) -> list[ExampleImage]:
    with open_hdf5(path, "examples") as file:
        check_lengths(path, file)
        classes = json.loads(file.attrs["classes"])
        images, labels = np.moveaxis(file["images"][:], 1, -1), file["labels"][:]
        maps = [
            (point, file[f"superpixels/{name}/{point_name}"][:])
            for name, entry in entries.items()
            for point_name, point in entry["points"].items()
            if point["function"] == f"superpixels.{method}"
        ]
    return [
        ExampleImage(
            index, name, image, [(point, segments[index]) for point, segments in maps], about
        )
        for index, (name, image) in enumerate(zip(_names(classes, labels), images, strict=True))
    ]


def _names(classes: list[str], labels: np.ndarray) -> list[str]:
    """The class of each image as printed; the second of a class is `Ship 2`."""
    names: list[str] = []
    for index, label in enumerate(labels):
        earlier = int((labels[:index] == label).sum())
        name = classes[label].capitalize()
        names.append(f"{name} {earlier + 1}" if earlier else name)
    return names
