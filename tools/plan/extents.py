"""The number and shape of a split's images, also before the data are there."""

import os
from pathlib import Path

import numpy as np

from advdenoise.calls import call_with
from advdenoise.datasets._source import Extent, Source
from advdenoise.errors import BadInput
from advdenoise.graph.sections.datasets import uses_data_root
from advdenoise.graph.sources import load


class Extents:
    """The extents of a configuration's data sets; `assumptions` are sentences on unknown ones."""

    def __init__(self, config: dict):
        self._config = config
        self._known: dict[str, Extent] = {}
        self.assumptions: list[str] = []

    def of(self, dataset: str) -> Extent:
        """A data set's extent, from its function if it has one, else from its images.

        Raises BadInput where the function gives none and the images are not there.
        """
        if dataset not in self._known:
            self._known[dataset] = self._find(dataset)
        return self._known[dataset]

    def size(self, dataset: str, split: str) -> int:
        """The number of images of a split."""
        extent = self.of(dataset)
        splits = self._config["datasets"][dataset]["splits"]
        entry = splits.get(split) or {}
        if "size" in entry:
            return entry["size"]
        if split == "train":
            return extent.train - (splits.get("held_out") or {}).get("size", 0)
        return extent.test if split == "test" else self.size(dataset, entry["of"])

    def _find(self, dataset: str) -> Extent:
        entry = self._config["datasets"][dataset]
        function = load("datasets", entry)
        extent_of = getattr(function.func, "extent", None)
        extent = extent_of(**entry.get("settings", {})) if extent_of else None
        if extent and not extent.assumed:
            return extent
        root = self._config["data_root"]
        if root is not None or not uses_data_root(self._config, dataset):
            return _read(call_with(function, root=Path(os.path.expanduser(root)) if root else None))
        if extent is None:
            raise BadInput(
                f"datasets.{dataset}: how many images it holds is not known before they are there; "
                "give your image folder with `--config data_root=FOLDER`"
            )
        self.assumptions.append(
            f"Assumed of data set {dataset}: {extent.assumed} "
            f"({extent.train:,} and {extent.test:,}); `--config data_root=FOLDER` has them counted"
        )
        return extent


def _read(source: Source) -> Extent:
    shape = source.read(np.zeros(1, dtype=np.int64)).shape[1:]
    counts = len(source.train_labels), len(source.test_labels)
    return Extent(*counts, shape, len(source.classes), dense=source.masks is not None)
