"""Trained classifiers folded for inference.

Apart from `models`: trainings import that as well, and a change of folding is none of a training.
"""

from pathlib import Path

from torch import nn

from advdenoise.inference.fold import fold
from advdenoise.stages.data import ImageSet
from advdenoise.stages.models import load_frozen


def classifier(path: Path, entry: dict, images: ImageSet) -> nn.Module:
    """A trained classifier, folded for inference: equal outputs up to rounding, faster."""
    return fold(load_frozen("classifiers", path, entry, images))
