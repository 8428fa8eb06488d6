import logging

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, NeuronFeatureAblation
from torch import nn

from advdenoise.attributions import _loo, _masks, _nodes, _quantiles, superpixels
from advdenoise.classifiers.resnet import cifar_resnet18
from advdenoise.errors import BadInput

SIDE, CLASSES = 8, 4
GREY = [0.4, 0.5, 0.6]
NO_NODES = _nodes.Nodes({}, {})


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ELU(inplace=True), nn.BatchNorm2d(6)),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 16, CLASSES)),
    ]
    model = nn.Sequential(*layers)
    model(torch.rand(32, 3, SIDE, SIDE))
    return model.eval()


@pytest.fixture(scope="module")
def nodes(model, images):
    return _nodes.draw_nodes(0, "small", _nodes.map_shapes(model, ["0", "1.0"], images[:1]), 5)


@pytest.fixture(scope="module")
def images():
    return torch.rand(7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def segments():
    """Scattered segments: 1, 2, 5, 13, 64, 3 and 20 of the images."""
    rng = np.random.default_rng(0)
    maps = []
    for count in (1, 2, 5, 13, 64, 3, 20):
        labels = rng.permutation(np.arange(SIDE * SIDE) % count)
        maps.append(labels.reshape(SIDE, SIDE))
    return torch.from_numpy(np.stack(maps))


@pytest.fixture(scope="module", params=["changes", "full passes"])
def leave_one_out(request, model, images):
    def build(nodes=NO_NODES, batch=128):
        changes = request.param == "changes"
        result = _loo.LeaveOneOut(model, nodes, images[:1], batch, changes)
        assert (result.stack is not None) == changes
        return result

    return build


def brute_force(model, image, segments, fill, per_channel=False):
    """Probabilities and phi [K, classes], with one pass for each mask."""
    with torch.no_grad():
        clean = model(image[None]).softmax(1)
        phi = []
        for segment in range(int(segments.max()) + 1):
            for channels in [[0], [1], [2]] if per_channel else [[0, 1, 2]]:
                masked = image.clone()
                for channel in channels:
                    masked[channel][segments == segment] = fill[channel]
                phi.append((model(masked[None]).softmax(1) - clean).abs())
    return clean[0], torch.cat(phi)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("batch", [1, 5, 16, 1000])
def test_attributions_equal_brute_force_at_every_batch_size(
    model, leave_one_out, images, segments, batch, per_channel
):
    masks = _masks.masks_of(images, segments, GREY, per_channel)
    results = list(leave_one_out(batch=batch).attributions(masks))
    assert len(results) == len(images)
    for i, (clean, phi) in enumerate(results):
        expected_clean, expected = brute_force(model, images[i], segments[i], GREY, per_channel)
        assert phi.shape == (CLASSES, (segments[i].max() + 1) * (3 if per_channel else 1))
        torch.testing.assert_close(clean, expected_clean, rtol=0, atol=1e-6)
        torch.testing.assert_close(phi.T, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("masking", "fill"),
    [
        ("black", lambda image: [0, 0, 0]),
        ("image_mean", lambda image: image.mean((1, 2)).tolist()),
        (0.25, lambda image: [0.25] * 3),
        ([0.1, 0.2, 0.3], lambda image: [0.1, 0.2, 0.3]),
    ],
)
def test_masking_values(model, leave_one_out, images, segments, masking, fill):
    masks = _masks.masks_of(images, segments, masking)
    for i, (_, phi) in enumerate(leave_one_out().attributions(masks)):
        _, expected = brute_force(model, images[i], segments[i], fill(images[i]))
        torch.testing.assert_close(phi.T, expected, rtol=0, atol=1e-6)


def test_probabilities_agree_with_captum(model, leave_one_out, images, segments):
    ablation = FeatureAblation(_nodes.probabilities(model))
    baseline = torch.tensor(GREY).view(1, 3, 1, 1)
    masks = _masks.masks_of(images, segments, GREY)
    for i, (_, phi) in enumerate(leave_one_out().attributions(masks)):
        for target in range(CLASSES):
            attribution = ablation.attribute(
                images[i : i + 1], baseline, target, feature_mask=segments[i][None, None]
            )
            expected = phi[target][segments[i]].expand(1, 3, -1, -1)
            torch.testing.assert_close(attribution.abs(), expected, rtol=0, atol=1e-6)


def test_masks_per_channel_agree_with_captum(model, leave_one_out, images, segments):
    ablation = FeatureAblation(_nodes.probabilities(model))
    masks = _masks.masks_of(images, segments, "black", per_channel=True)
    for i, (_, phi) in enumerate(leave_one_out().attributions(masks)):
        numbers = segments[i] * 3 + torch.arange(3)[:, None, None]
        attribution = ablation.attribute(images[i : i + 1], 0, 1, feature_mask=numbers[None])
        torch.testing.assert_close(attribution[0].abs(), phi[1][numbers], rtol=0, atol=1e-6)


def test_hidden_nodes_agree_with_captum(model, leave_one_out, nodes, images, segments):
    # Captum reads maps after the whole pass, when an in-place activation has overwritten the map of
    # the convolution; the output of the block is not affected.
    results = list(leave_one_out(nodes).attributions(_masks.masks_of(images, segments, GREY)))
    ablation = NeuronFeatureAblation(model, model[0])
    baseline = torch.tensor(GREY).view(1, 3, 1, 1)
    for node, index in enumerate(nodes.indices["0"]):
        coordinates = tuple(int(axis) for axis in np.unravel_index(index, nodes.shapes["0"]))
        for i, (_, phi) in enumerate(results):
            attribution = ablation.attribute(
                images[i : i + 1], coordinates, baseline, feature_mask=segments[i][None, None]
            )
            expected = phi[node][segments[i]].expand(1, 3, -1, -1)
            torch.testing.assert_close(attribution.abs(), expected, rtol=0, atol=1e-6)


def test_a_pixel_outside_the_receptive_field_has_no_attribution(leave_one_out, nodes, images):
    labels = torch.arange(SIDE * SIDE).view(1, SIDE, SIDE)
    corner = _nodes.Nodes({"0": nodes.shapes["0"]}, {"0": [0]})
    masks = _masks.masks_of(images[:1], labels, 0.5)
    ((_, phi),) = leave_one_out(corner).attributions(masks)
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[:2, :2] = True
    assert not phi[0][~inside.flatten()].any()
    assert phi[0][inside.flatten()].all()


def test_inference_mode_does_not_leak_to_the_caller(leave_one_out, images, segments):
    for _ in leave_one_out().attributions(_masks.masks_of(images, segments, 0.5)):
        assert not torch.is_inference_mode_enabled()
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad


@pytest.mark.parametrize("rule", _quantiles.RULES)
def test_features_are_the_iqrs_of_each_image(leave_one_out, nodes, images, segments, rule):
    results = leave_one_out(nodes)
    clean, iqrs = results.features(images, segments, "black", rule)
    assert clean.shape == (len(images), CLASSES)
    assert iqrs.shape == (len(images), len(nodes) + CLASSES)
    assert not iqrs[0].any()  # one segment
    masks = _masks.masks_of(images, segments, "black")
    for i, (actual, phi) in enumerate(results.attributions(masks)):
        torch.testing.assert_close(clean[i], actual)
        assert torch.equal(iqrs[i], _quantiles.iqr(phi, rule))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("rule", _quantiles.RULES)
def test_skipped_nodes_of_single_pixels_are_zero_in_full_passes(
    model, nodes, images, rule, per_channel, caplog
):
    labels = np.stack([superpixels.pixels(np.zeros((SIDE, SIDE, 3)))] * len(images))
    changes = _loo.LeaveOneOut(model, nodes, images[:1])
    passes = _loo.LeaveOneOut(model, nodes, images[:1], by_changes=False)
    with caplog.at_level(logging.INFO):
        results = changes.features(images, labels, GREY, rule, per_channel)
    # Of 64 pixels 3x3 and 4x4 reach them.
    assert "reach 10 of the 10 hidden nodes" in caplog.text or rule == "linear"
    by_passes = passes.features(images, labels, GREY, rule, per_channel)
    for actual, expected in zip(results, by_passes, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert results[1][:, -CLASSES:].all()


def test_a_residual_network_takes_full_passes_and_logs_why(images, segments, caplog):
    network = cifar_resnet18((3, SIDE, SIDE), CLASSES, width=4).eval()
    with caplog.at_level(logging.INFO):
        results = _loo.LeaveOneOut(network, NO_NODES, images[:1])
    assert results.stack is None
    reason = "not a sequence of supported layers (the output of layers_relu is read 2 times)"
    assert reason in caplog.text
    clean, iqrs = results.features(images, segments, GREY)
    assert iqrs.shape == (len(images), CLASSES)
    expected_clean, phi = brute_force(network, images[4], segments[4], GREY)
    torch.testing.assert_close(clean[4], expected_clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(iqrs[4], _quantiles.iqr(phi.T), rtol=0, atol=1e-6)


def test_a_constant_image_has_features(leave_one_out):
    images = torch.full((2, 3, SIDE, SIDE), 0.5)
    labels = np.stack([superpixels.felzenszwalb(np.full((SIDE, SIDE, 3), 0.5), scale=1)] * 2)
    for masking in (0.5, "image_mean", "black"):
        clean, iqrs = leave_one_out().features(images, labels, masking)
        assert not iqrs.any() and clean.isfinite().all()


def test_images_of_another_shape_are_refused(leave_one_out, segments):
    with pytest.raises(BadInput, match=r"must have the shape \(3, 8, 8\), got \(3, 6, 8\)"):
        leave_one_out().features(torch.rand(7, 3, 6, 8), segments[:, :6], 0.5)


def test_images_that_are_not_finite_are_refused(leave_one_out, images, segments):
    broken = images.clone()
    broken[3, 1, 2, 2] = torch.nan
    with pytest.raises(BadInput, match="an image has values that are not finite"):
        leave_one_out().features(broken, segments, 0.5)


def test_outputs_that_are_not_finite_are_refused(images, segments):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES)).eval()
    model[1].weight.data.fill_(torch.inf)
    for changes in (False, True):
        results = _loo.LeaveOneOut(model, NO_NODES, images[:1], by_changes=changes)
        with pytest.raises(BadInput, match="not finite for a masked image"):
            results.features(images, segments, 0.5)


def test_a_network_in_training_mode_is_refused(images):
    with pytest.raises(ValueError, match="training mode"):
        _loo.LeaveOneOut(nn.Linear(1, 1), NO_NODES, images[:1])


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_a_norm_without_running_statistics_is_refused(images, norm):
    free = norm(3 * SIDE**2 if norm is nn.BatchNorm1d else 3, track_running_stats=False)
    layers = [nn.Flatten(), free] if norm is nn.BatchNorm1d else [free, nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(3 * SIDE**2, CLASSES)).eval()
    with pytest.raises(BadInput, match=rf"\d \({norm.__name__}\) .* track_running_stats=True"):
        _loo.LeaveOneOut(model, NO_NODES, images[:1])


def test_a_single_module_in_training_mode_is_refused(images):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * SIDE**2, CLASSES)).eval()
    model[1].train()
    with pytest.raises(ValueError, match="training mode"):
        _loo.LeaveOneOut(model, NO_NODES, images[:1])


def test_rounded_probabilities_are_subtracted_in_float32(images, segments):
    """For saturated probabilities the IQR is then exactly 0 for some images."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES)).eval()
    model[1].weight.data.mul_(150)
    rounded = _loo.LeaveOneOut(model, NO_NODES, images[:1], rounding="float32")
    clean, iqrs = rounded.features(images, segments, GREY)
    exact = _loo.LeaveOneOut(model, NO_NODES, images[:1]).features(images, segments, GREY)[1]
    for image, labels, features in zip(images, segments, iqrs, strict=True):
        outputs = []
        with torch.no_grad():
            for segment in range(-1, int(labels.max()) + 1):
                masked = torch.where(labels == segment, torch.tensor(GREY)[:, None, None], image)
                logits = model.double()(masked[None].double())
                outputs.append(logits.softmax(1)[0].float())
        model.float()
        phi = (torch.stack(outputs[1:]) - outputs[0]).abs()
        expected = _quantiles.iqr(phi.T)
        torch.testing.assert_close(features, expected, atol=2e-6, rtol=0)
    assert torch.equal(clean, rounded.features(images, segments, GREY)[0])
    assert (iqrs == 0).sum() > (exact == 0).sum()


def test_hidden_representations_end_with_the_probabilities():
    clean = torch.tensor([[0.2, 0.8]])
    iqrs = torch.tensor([[1.0, 2.0, 3.0]])
    results = _loo.representations(clean, iqrs)
    assert results["predicted"].tolist() == [[3]]
    assert results["probabilities"].tolist() == [[2, 3]]
    assert results["hidden"].tolist() == [[1, 2, 3]]
