"""Interquartile ranges: leave-one-out by hand, one masked image at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from advdenoise.attributions import superpixels
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import iqr_schema
from advdenoise.stages import leave_one_out, models
from advdenoise.stages.data import open_images

FILE = "seed0/digits/iqr/{}/{}/small/few.parquet"
NODES = 2 * 5


def rows(path):
    return read_table(path, iqr_schema(10, NODES + 10)).to_pandas()


@pytest.fixture(scope="module")
def few(world):
    class Few:
        with open_images(world.make("images/digits/few.h5")) as clean:
            images = torch.from_numpy(clean.stored[:] / np.float32(255))
            labels, ids = clean.labels, clean.ids
            network = models.load_frozen(
                "classifiers",
                world.make("seed0/digits/classifiers/small.safetensors"),
                world.settings(FILE.format("clean", "blocks"))["classifier"],
                clean,
            )

    return Few


@torch.no_grad()
def outputs(network, image, nodes) -> np.ndarray:
    """Chosen nodes and probabilities of one image [C,H,W]."""
    values, result = network.normalise(image[None]), []
    for place, layer in enumerate(network.layers):
        values = layer(values.clone())
        if f"layers.{place}" in nodes:
            result.append(values.flatten()[nodes[f"layers.{place}"]].clone())
    return torch.cat([*result, values.softmax(1)[0]]).double().numpy()


def by_hand(network, image, segments, nodes, fill, quantile) -> tuple[np.ndarray, np.ndarray]:
    whole = outputs(network, image, nodes)
    phi = []
    for segment in range(segments.max() + 1):
        masked = image.clone()
        masked[:, torch.from_numpy(segments == segment)] = fill
        phi.append(np.abs(outputs(network, masked, nodes) - whole))
    low, high = np.quantile(phi, [0.25, 0.75], axis=0, method=quantile)
    return whole, high - low


@pytest.mark.parametrize(
    ("threat", "attribution", "point", "segments", "quantile"),
    [
        ("clean", "blocks", "n6", 6, "linear"),
        ("cycled@small", "blocks", "n12", 12, "linear"),
        ("fgsm@small", "inverted", "default", 16, "inverted_cdf"),
    ],
)
def test_features_by_hand(world, few, threat, attribution, point, segments, quantile):
    path = world.make(FILE.format(threat, attribution))
    result = rows(path)
    attack_point = "pgd" if threat == "cycled@small" else "default"
    inputs = few.images
    if threat != "clean":
        with open_hdf5(world.make(f"seed0/digits/adversarial/{threat}/few.h5")) as file:
            inputs = inputs + torch.from_numpy(file[f"points/{attack_point}/perturbation"][:])
    nodes = read_provenance(path)["settings"]["nodes"]
    assert [len(indices) for indices in nodes.values()] == [5, 5]
    part = result[
        (result["attack_point"] == attack_point) & (result["attribution_point"] == point)
    ].reset_index()
    assert np.array_equal(part["id"], few.ids) and np.array_equal(part["label"], few.labels)
    for place in range(0, 12, 3):
        image = inputs[place]
        normalised = ((image - 0.2) / 0.4).permute(1, 2, 0).numpy()
        labels = superpixels.slic(normalised, n_segments=segments)
        if quantile != "linear":
            assert labels.max() % 4, "with 4 k + 1 segments both quantiles are the same"
        fill = image.mean() if attribution == "inverted" else 0.25
        whole, spread = by_hand(few.network, image, labels, nodes, fill, quantile)
        row = part.loc[place]
        assert row["segments"] == labels.max() + 1
        assert row["prediction"] == whole[-10:].argmax()
        assert np.allclose(row["hidden"], spread, atol=2e-6)
        assert np.allclose(row["probabilities"], spread[-10:], atol=2e-6)
        assert row["predicted"][0] == row["probabilities"][row["prediction"]]


def test_success_and_budget_are_those_of_the_attack(world, few):
    result = rows(world.make(FILE.format("cycled@small", "blocks")))
    assert len(result) == 12 * 2 * 2
    for point in ("fgsm", "pgd"):
        part = result[(result["attack_point"] == point) & (result["attribution_point"] == "n6")]
        with open_hdf5(world.make("seed0/digits/adversarial/cycled@small/few.h5")) as file:
            group = file[f"points/{point}"]
            assert np.array_equal(part["epsilon"], group["epsilon"][:])
            assert np.array_equal(part["success"].astype(bool), group["success"][:].astype(bool))
            assert np.array_equal(part["success"], part["prediction"] != part["label"])


def test_clean_images_have_neither_success_nor_budget(world):
    result = read_table(world.make(FILE.format("clean", "blocks")))
    assert result["success"].null_count == result["epsilon"].null_count == len(result)


def test_nodes_are_shared_by_threats_attributions_and_splits(world):
    files = [
        FILE.format("clean", "blocks"),
        FILE.format("cycled@small", "blocks"),
        FILE.format("fgsm@small", "inverted"),
        "seed0/digits/iqr/clean/blocks/small/test.parquet",
    ]
    drawn = [read_provenance(world.make(f))["settings"]["nodes"] for f in files]
    assert all(nodes == drawn[0] for nodes in drawn)


def test_a_classifier_without_taps_gives_its_probabilities(world, few, tmp_path):
    path = world.run(FILE.format("clean", "blocks"), tmp_path / "x.parquet", {"taps": []})
    result = read_table(path, iqr_schema(10, 10)).to_pandas()
    expected = rows(world.make(FILE.format("clean", "blocks")))
    assert np.allclose(np.stack(result["hidden"]), np.stack(result["probabilities"]))
    assert np.allclose(
        np.stack(result["probabilities"]), np.stack(expected["probabilities"]), atol=1e-6
    )


def test_superpixels_have_the_images_size_where_the_network_resizes(few):
    point = {"function": "superpixels.slic", "settings": {"n_segments": 12}}
    plain = Normalised(Normalise(1, 0.2, 0.4), nn.Identity())
    resizing = Normalised(Normalise(1, 0.2, 0.4, 14), nn.Identity())
    assert resizing.normalise(few.images).shape[-1] == 14
    expected = leave_one_out.segments(point, plain, few.images)
    assert expected.shape == (12, 28, 28)
    assert torch.equal(leave_one_out.segments(point, resizing, few.images), expected)
