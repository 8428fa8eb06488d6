"""The cost of attributions: what is counted, and what is timed."""

import numpy as np
import pytest
import torch

from advdenoise.attributions._loo import LeaveOneOut
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import COST
from advdenoise.stages import cost

FILE = "seed0/digits/cost/{}/{}/few.parquet"
HIDDEN = 2 * 5 + 10


def rows(path):
    return read_table(path, COST).to_pandas()


def test_the_printed_memory_of_single_pixels():
    """Table 7: 1,024 masks, 128 images, 3,810 values in four bytes."""
    assert cost.array_bytes(1024, 128, 3810) == 1_997_537_280 + 110


def test_every_point_and_representation_is_measured(world):
    result = rows(world.make(FILE.format("blocks", "small")))
    places = [
        (point, representation, repetition)
        for point in ("n6", "n12")
        for representation in ("predicted", "probabilities", "hidden")
        for repetition in range(2)
    ]
    columns = ["attribution_point", "representation", "repetition"]
    assert list(result[columns].itertuples(index=False, name=None)) == places
    sizes = {"predicted": 1, "probabilities": 10, "hidden": HIDDEN}
    assert (result["values"] == result["representation"].map(sizes)).all()
    assert (result["images"] == 6).all()
    features = read_table(world.make("seed0/digits/iqr/clean/blocks/small/few.parquet"))
    segments = features.to_pandas().groupby("attribution_point")["segments"]
    for point, part in result.groupby("attribution_point"):
        first = segments.get_group(point).head(6)
        assert (part["passes"] == np.float32(first.mean())).all()
        assert (part["most_passes"] == first.max()).all()
        assert (part["array_bytes"] == first.max() * 6 * part["values"] * 4 + 110).all()
    for name in ("segmentation_seconds", "passes_seconds", "features_seconds"):
        assert (result[name] > 0).all()


def test_without_taps_there_is_nothing_hidden(world):
    result = rows(world.make(FILE.format("inverted", "elu")))
    assert set(result["representation"]) == {"predicted", "probabilities"}


def test_each_representation_is_computed_alone(world, monkeypatch):
    looked_at = []
    original = LeaveOneOut.attributions

    def watched(self, masks):
        for whole, phi in original(self, masks):
            looked_at.append(len(phi))
            yield whole, phi

    monkeypatch.setattr(LeaveOneOut, "attributions", watched)
    world.run(FILE.format("inverted", "small"), world.root / "watched.parquet", {"repetitions": 1})
    # Four images to warm up, six that are timed; ten values for the outputs, and all nodes.
    assert looked_at == [10] * 20 + [HIDDEN] * 10


@pytest.mark.parametrize("representation", ["predicted", "probabilities", "hidden"])
def test_gathering_takes_what_the_representation_holds(representation):
    class Way:
        def attributions(self, masks):
            yield torch.tensor([0.1, 0.7, 0.2]), torch.arange(20.0).view(5, 4)

    expected = {"predicted": 1, "probabilities": 5, "hidden": 5}
    assert cost._gather(Way(), representation, None) == expected[representation]
