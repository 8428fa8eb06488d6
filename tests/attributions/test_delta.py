"""Propagating the change alone, against one full pass for each mask."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from advdenoise.attributions import _delta, _masks, _nodes
from advdenoise.classifiers.convnets import elu_cnn, lenet
from advdenoise.errors import BadInput
from advdenoise.inference import stack
from advdenoise.inference.fold import fold
from tests.attributions.networks import every_layer, networks

CHANNELS, HEIGHT, WIDTH = 2, 9, 11


def build_delta(network, names=(), per_layer=7, shape=(CHANNELS, HEIGHT, WIDTH)):
    example = torch.rand(1, *shape, dtype=next(network.parameters()).dtype)
    shapes = _nodes.map_shapes(network, names, example)
    nodes = _nodes.draw_nodes(0, "small", shapes, per_layer)
    return _delta.Delta(stack.read_stack(network, example, names), nodes), nodes


def brute_force(network, nodes, masks: _masks.Masks) -> list[torch.Tensor]:
    """phi [D, masks] of each image, in float64, one pass for each mask."""
    network = copy.deepcopy(network).double()
    results = []
    with torch.no_grad(), _nodes.node_outputs(network, nodes) as outputs:
        for image, labels, fill in zip(masks.images, masks.segments, masks.fill, strict=True):
            clean = outputs(image[None].double())
            phi = []
            for segment in range(labels.max() + 1):
                for channels in range(len(image)) if masks.per_channel else [range(len(image))]:
                    masked = image.double().clone()
                    for channel in np.atleast_1d(channels):
                        masked[channel][labels == segment] = fill[channel, 0, 0].double()
                    phi.append((outputs(masked[None]) - clean)[0].abs())
            results.append(torch.stack(phi, dim=1))
    return results


def check(results, expected, tolerance: float) -> None:
    for (_, phi), expected_phi in zip(results, expected, strict=True):
        assert phi.shape == expected_phi.shape
        limit = tolerance * expected_phi.abs().max() + 1e-12
        assert (phi.double() - expected_phi).abs().max() <= limit


def label_maps(draw, count: int, height: int, width: int) -> np.ndarray:
    """Connected or scattered segments, a different number for each image."""
    maps = []
    for _ in range(count):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        segments = draw(st.sampled_from([1, 2, 5, 17, height * width]))
        labels = np.sort(rng.integers(segments, size=height * width))
        if draw(st.booleans()):
            labels = rng.permutation(labels)
        labels = np.unique(labels, return_inverse=True)[1]
        maps.append(labels.reshape(height, width))
    return np.stack(maps)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_changes_equal_brute_force_on_random_networks_and_masks(data):
    network = data.draw(networks(CHANNELS, HEIGHT, WIDTH))
    images = torch.rand(3, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64)
    labels = label_maps(data.draw, len(images), HEIGHT, WIDTH)
    masking = data.draw(st.sampled_from(["black", "image_mean", 0.7]))
    masks = _masks.masks_of(images, labels, masking, per_channel=data.draw(st.booleans()))
    delta, nodes = build_delta(network, every_layer(network))
    check(delta.attributions(masks), brute_force(network, nodes, masks), 1e-9)


@pytest.fixture(scope="module", params=["elu_cnn", "lenet", "strided", "vgg"])
def network(request):
    torch.manual_seed(1)
    model = {
        "elu_cnn": lambda: elu_cnn((3, 16, 16), 10, width=6),
        "lenet": lambda: lenet((3, 16, 16), 10, channels=(4, 6), hidden=9, mean=0.4, std=0.2),
        "strided": lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding="valid", bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 5, padding="same", groups=2),
            nn.GELU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 9, 10),
        ),
        "vgg": lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        ),
    }[request.param]()
    with torch.no_grad():
        model.train()(torch.rand(32, 3, 16, 16))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("masks", ["pixels", "blocks", "channels"])
def test_float32_is_exact_to_1e_5_of_the_largest_attribution(network, masks):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    cells = np.arange(16) // (1 if masks == "pixels" else 3)
    labels = np.broadcast_to(cells[:, None] * (cells[-1] + 1) + cells, (3, 16, 16))
    masks = _masks.masks_of(images, labels, 0.473363, per_channel=masks == "channels")
    for names in ([], list(stack.read_stack(network, images[:1]).sources)):
        delta, nodes = build_delta(network, names, shape=(3, 16, 16))
        results, expected = list(delta.attributions(masks)), brute_force(network, nodes, masks)
        check(results, expected, 1e-5)
        # The probabilities separately, since they are smaller than most nodes.
        check([(clean, phi[-10:]) for clean, phi in results], [e[-10:] for e in expected], 1e-5)


def test_a_folded_network_has_equal_attributions(network):
    images = torch.rand(2, 3, 16, 16)
    masks = _masks.masks_of(images, np.arange(256).reshape(1, 16, 16).repeat(2, 0), "black")
    delta, nodes = build_delta(network, shape=(3, 16, 16))
    folded, _ = build_delta(fold(network), shape=(3, 16, 16))
    pairs = zip(delta.attributions(masks), folded.attributions(masks), strict=True)
    for (clean, phi), (other_clean, other_phi) in pairs:
        torch.testing.assert_close(clean, other_clean)
        torch.testing.assert_close(phi, other_phi, rtol=0, atol=2e-6)


@pytest.mark.parametrize("memory", [1, 40_000, 1 << 30])
@pytest.mark.parametrize("max_masks", [1, 7, 4096])
def test_attributions_do_not_depend_on_memory_or_batches(network, memory, max_masks, monkeypatch):
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    rng = np.random.default_rng(0)
    counts = [1, 30, 2, 256, 30]
    labels = np.stack([np.sort(np.arange(256) % count) for count in counts]).reshape(5, 16, 16)
    labels[3] = rng.permutation(256).reshape(16, 16)
    masks = _masks.masks_of(images, labels, 0.2)
    delta, _ = build_delta(network, ["0"] if isinstance(network, nn.Sequential) else ["layers.0"],
                        shape=(3, 16, 16))  # fmt: skip
    expected = [phi.clone() for _, phi in delta.attributions(masks)]
    monkeypatch.setitem(_delta.MEMORY, "cpu", memory)
    monkeypatch.setitem(_delta.MAX_MASKS, "cpu", max_masks)
    results = [phi.clone() for _, phi in delta.attributions(masks)]
    assert [phi.shape[1] for phi in results] == counts
    for actual, expected_phi in zip(results, expected, strict=True):
        torch.testing.assert_close(actual, expected_phi, rtol=0, atol=2e-6)


def test_a_mask_that_changes_nothing_has_no_attribution(network):
    images = torch.full((1, 3, 16, 16), 0.25)
    masks = _masks.masks_of(images, np.arange(256).reshape(1, 16, 16), 0.25)
    delta, _ = build_delta(network, shape=(3, 16, 16))
    ((_, phi),) = delta.attributions(masks)
    assert phi.max() < 1e-6


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(networks(CHANNELS, 12, 12), st.sampled_from(["linear", "inverted_cdf"]), st.booleans())
def test_certain_zeros_are_zeros_and_complete(network, rule, per_channel):
    delta, nodes = build_delta(network, every_layer(network), 3, (CHANNELS, 12, 12))
    zero = delta.certain_zeros(rule, per_channel)
    images = torch.rand(1, CHANNELS, 12, 12, dtype=torch.float64)
    labels = np.arange(144).reshape(1, 12, 12)
    (phi,) = brute_force(network, nodes, _masks.masks_of(images, labels, 0.9, per_channel))
    low, high = np.quantile(phi[: len(nodes)].numpy(), [0.25, 0.75], axis=1, method=rule)
    assert not (high - low)[zero].any()
    # A pixel reaches a node if its gradient is not zero for some image.
    pixels = _reaching_pixels(network, nodes)
    last = {"linear": 0.75 * (144 - 1), "inverted_cdf": 0.75 * 144 - 1}[rule]
    assert not zero[pixels > 144 - 1 - int(last)].any()


def _reaching_pixels(network, nodes) -> np.ndarray:
    """A lower bound of the pixels that reach each node: those with a gradient for two images."""
    counts = np.zeros(len(nodes), int)
    with _nodes.node_outputs(network, nodes) as outputs:
        for _ in range(2):
            image = torch.rand(1, CHANNELS, 12, 12, dtype=torch.float64, requires_grad=True)
            values = outputs(image)[0, : len(nodes)]
            for node, value in enumerate(values):
                (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
                counts[node] = max(counts[node], (gradient[0] != 0).any(0).sum())
    return counts


@pytest.mark.parametrize("rule", ["inverted_cdf", "linear"])
def test_certain_zeros_of_the_26_layer_network(rule):
    """All of layers 6 to 13; nodes in the middle of 14 and 15 depend on 16x16 pixels, a quarter."""
    network = elu_cnn((3, 32, 32), 10, width=1).eval()
    names = [f"layers.{i}" for i in range(6, 25)]
    delta, nodes = build_delta(network, names, per_layer=200, shape=(3, 32, 32))
    zero = delta.certain_zeros(rule, per_channel=False).reshape(19, 200)
    assert zero[:8].all()
    for row, name in enumerate(names[:-1]):
        y, x = (np.array(a) for a in np.unravel_index(nodes.indices[name], nodes.shapes[name])[1:])
        if name in ("layers.14", "layers.15"):
            middle = (y >= 2) & (y < 6) & (x >= 2) & (x < 6)
            # A quarter is enough for the 769th of 1,024, which the interpolation uses.
            assert np.array_equal(zero[row], ~middle | (rule == "inverted_cdf"))
        if name in ("layers.16", "layers.17", "layers.18"):
            # Their receptive fields are 24 pixels wide, less at the edges.
            height, width = (np.minimum(4 * a + 14, 32) - np.maximum(4 * a - 10, 0) for a in (y, x))
            assert np.array_equal(zero[row], height * width <= (256 if rule != "linear" else 255))
    assert {"inverted_cdf": 2000, "linear": 1850}[rule] < zero.sum() < 2300


def test_logits_that_are_not_finite_are_refused(network):
    broken = copy.deepcopy(network)
    with torch.no_grad():
        list(broken.modules())[-1].bias.fill_(torch.nan)
    delta, _ = build_delta(broken, shape=(3, 16, 16))
    masks = _masks.masks_of(torch.rand(1, 3, 16, 16), np.zeros((1, 16, 16)), 0.5)
    with pytest.raises(BadInput, match="not finite"):
        next(delta.attributions(masks))
