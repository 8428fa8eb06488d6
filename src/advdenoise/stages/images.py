"""Prepare one split of a data set: images, labels and ids in one HDF5 file."""

import hashlib
import json
import os
import time
from pathlib import Path

from advdenoise.calls import call_with
from advdenoise.datasets._source import IMAGES, BadSource, Source
from advdenoise.datasets._splits import draw_split
from advdenoise.errors import BadInput
from advdenoise.graph.sources import load
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.provenance import collect_provenance


def run(settings: dict, output: Path, root: str | None = None) -> None:
    """Write the images of a split to `output`, in blocks: memory does not grow with their number.

    `settings` are `{"dataset": name, "entry": {function, settings, splits}, "split": name}`. The
    file holds `images` (uint8 [N, C, H, W], 0..255; the attribute `sha256` is of their bytes),
    `labels` and `ids` (int64 [N]), and the attributes `classes` (a JSON list), `dataset`, `split`.
    Of a dense data set it holds `masks` (uint8 [N, H, W], 255 where a pixel has no class) in the
    place of `labels`.
    Raises `BadInput` where the data root, the data set or the split is not what it should be.
    """
    key = f"datasets.{settings['dataset']}: {settings['entry']['function']}"
    try:
        _write(settings, output, Path(os.path.expanduser(root)) if root else None)
    except BadSource as mistake:
        raise BadInput(f"{key}: {mistake}") from mistake


def _write(settings: dict, output: Path, root: Path | None) -> None:
    started = time.time()
    entry, name, split = settings["entry"], settings["dataset"], settings["split"]
    source = call_with(load("datasets", entry), root=root)
    if not isinstance(source, Source):
        raise BadSource(f"must return a Source, but returns a {type(source).__name__}")
    ids = draw_split(source, name, split, entry.get("splits", {}))
    one = source.images(ids[:1]).shape[1:]
    shape, brightest = (len(ids), *one), 0
    with create_hdf5(output, collect_provenance(settings, started), kind="images") as file:
        images = add_array(file, "images", shape=shape, dtype="uint8")
        digest = hashlib.sha256()
        block = images.chunks[0]
        for start in range(0, len(ids), block):
            read = source.images(ids[start : start + block], one)
            brightest = max(brightest, int(read.max()))
            images[start : start + len(read)] = read
            digest.update(read.tobytes())
        images.attrs["sha256"] = digest.hexdigest()
        if brightest == 1:
            raise BadSource(f"{IMAGES}, but none is above 1; multiply by 255 before the cast")
        if source.masks:
            masks = add_array(file, "masks", shape=(len(ids), *shape[2:]), dtype="uint8", rows=1)
            for row in range(len(ids)):
                masks[row] = source.mask(ids[row], one[1:])
        else:
            add_array(file, "labels", source.labels(ids))
        add_array(file, "ids", ids)
        file.attrs["classes"] = json.dumps([*source.classes])
        file.attrs["dataset"] = name
        file.attrs["split"] = split
