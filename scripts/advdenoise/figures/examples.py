"""Strips of images with what became of them."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from scripts.advdenoise import store


def strips(examples: list[Path], *, images: int = 6) -> Figure:
    """The first images of each file in three rows: clean, as seen, purified, with predictions.

    Predictions are printed above the purified images, in red where they are wrong.
    """
    groups = [group for path in examples for group in _groups(path, images)]
    figure, axes = plt.subplots(
        3 * len(groups), images, figsize=(1.1 * images, 3.6 * len(groups)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for place, group in enumerate(groups):
        for row, name in enumerate(("images", "seen", "purified")):
            for column in range(len(group["images"])):
                axis = axes[3 * place + row][column]
                picture = np.moveaxis(group[name][column], 0, -1).squeeze()
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
                if name == "purified":
                    _predicted(axis, group, column)
        axes[3 * place][0].set_title(group["title"], fontsize=7, loc="left")
    return figure


def _groups(path: Path, count: int) -> list[dict]:
    settings = store.read_provenance(path)["settings"]
    found = []
    with store.open_hdf5(path, "examples") as file:
        common = {name: file[name][:count] for name in ("images", "labels")}
        common["classes"] = json.loads(file.attrs["classes"])
        for attack_point, purified in file.items():
            if attack_point in ("images", "labels", "ids"):
                continue
            for purifier_point, group in purified.items():
                points = [p for p in (attack_point, purifier_point) if p != "default"]
                title = " ".join([settings["threat"], settings["purifier"]["name"], *points])
                arrays = {name: group[name][:count] for name in group}
                found.append({**common, **arrays, "title": title})
    return found


def _predicted(axis, group: dict, column: int) -> None:
    prediction, label = group["prediction"][column], group["labels"][column]
    name = group["classes"][prediction]
    axis.set_title(name, fontsize=6, color="black" if prediction == label else "red", pad=2)
