import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, NeuronFeatureAblation
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from scripts.advdenoise.attributions import _loo, _nodes
from scripts.advdenoise.errors import BadInput

SIDE, CLASSES = 8, 4
GREY = [0.4, 0.5, 0.6]


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
def images():
    return torch.rand(7, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def segments():
    """Images of 1, 2, 5, 13, 64, 3 and 20 segments, scattered."""
    rng = np.random.default_rng(0)
    maps = []
    for count in (1, 2, 5, 13, 64, 3, 20):
        labels = rng.permutation(np.arange(SIDE * SIDE) % count)
        maps.append(labels.reshape(SIDE, SIDE))
    return torch.from_numpy(np.stack(maps))


def brute_force(model, image, segments, fill):
    """phi [K, classes], one pass for each mask."""
    with torch.no_grad():
        whole = model(image[None]).softmax(1)
        phi = []
        for segment in range(int(segments.max()) + 1):
            masked = image.clone()
            for channel in range(len(image)):
                masked[channel][segments == segment] = fill[channel]
            phi.append((model(masked[None]).softmax(1) - whole).abs())
    return whole[0], torch.cat(phi)


@pytest.mark.parametrize("batch", [1, 5, 16, 1000])
def test_attributions_equal_brute_force_at_every_batch_size(model, images, segments, batch):
    outputs = _nodes.probabilities(model)
    found = list(_loo.leave_one_out(images, segments, outputs, GREY, batch))
    assert len(found) == len(images)
    for i, (whole, phi) in enumerate(found):
        expected_whole, expected = brute_force(model, images[i], segments[i], GREY)
        assert phi.shape == (CLASSES, segments[i].max() + 1)
        torch.testing.assert_close(whole, expected_whole, rtol=0, atol=1e-6)
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
def test_masking_values(model, images, segments, masking, fill):
    outputs = _nodes.probabilities(model)
    for i, (_, phi) in enumerate(_loo.leave_one_out(images, segments, outputs, masking)):
        _, expected = brute_force(model, images[i], segments[i], fill(images[i]))
        torch.testing.assert_close(phi.T, expected, rtol=0, atol=1e-6)


def test_probabilities_agree_with_captum(model, images, segments):
    outputs = _nodes.probabilities(model)
    ablation = FeatureAblation(outputs)
    baseline = torch.tensor(GREY).view(1, 3, 1, 1)
    for i, (_, phi) in enumerate(_loo.leave_one_out(images, segments, outputs, GREY)):
        for target in range(CLASSES):
            attribution = ablation.attribute(
                images[i : i + 1], baseline, target, feature_mask=segments[i][None, None]
            )
            expected = phi[target][segments[i]].expand(1, 3, -1, -1)
            torch.testing.assert_close(attribution.abs(), expected, rtol=0, atol=1e-6)


def test_hidden_nodes_agree_with_captum(model, images, segments):
    # Captum looks after the whole pass, when an in-place activation has overwritten the
    # convolution's map; the block's own output is safe.
    shapes = _nodes.map_shapes(model, ["0"], images[:1])
    nodes = _nodes.draw(0, "small", shapes, per_layer=5)
    with _nodes.node_outputs(model, nodes) as outputs:
        found = list(_loo.leave_one_out(images, segments, outputs, GREY))
    ablation = NeuronFeatureAblation(model, model[0])
    baseline = torch.tensor(GREY).view(1, 3, 1, 1)
    for node, index in enumerate(nodes.indices["0"]):
        place = tuple(int(axis) for axis in np.unravel_index(index, shapes["0"]))
        for i, (_, phi) in enumerate(found):
            attribution = ablation.attribute(
                images[i : i + 1], place, baseline, feature_mask=segments[i][None, None]
            )
            expected = phi[node][segments[i]].expand(1, 3, -1, -1)
            torch.testing.assert_close(attribution.abs(), expected, rtol=0, atol=1e-6)


def test_a_node_out_of_reach_has_no_attribution(model, images):
    labels = torch.arange(SIDE * SIDE).view(1, SIDE, SIDE)
    shapes = _nodes.map_shapes(model, ["0"], images[:1])
    corner = _nodes.Nodes(shapes, {"0": [0]})
    with _nodes.node_outputs(model, corner) as outputs:
        ((_, phi),) = _loo.leave_one_out(images[:1], labels, outputs, 0.5, batch=10)
    reached = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    reached[:2, :2] = True
    assert not phi[0][~reached.flatten()].any()
    assert phi[0][reached.flatten()].all()


def test_the_caller_stays_out_of_inference_mode(model, images, segments):
    for _ in _loo.leave_one_out(images, segments, _nodes.probabilities(model), 0.5):
        assert not torch.is_inference_mode_enabled()
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad


@pytest.mark.parametrize(
    "masking", ["blak", "mean_grey", 1.5, -0.1, float("nan"), [0.1, 0.2], [0.1, 0.2, 3.0]]
)
def test_another_masking_is_told(model, images, segments, masking):
    with pytest.raises(BadInput, match="attributions: masking is"):
        next(_loo.leave_one_out(images, segments, _nodes.probabilities(model), masking))


def test_outputs_that_are_not_finite_are_told(images, segments):
    def broken(images):
        return torch.full((len(images), 2), torch.nan)

    with pytest.raises(BadInput, match="not finite"):
        next(_loo.leave_one_out(images, segments, broken, 0.5))


values = st.floats(0, 1e3, width=32)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=values),
    st.sampled_from(_loo.RULES),
)
def test_iqr_is_numpys_to_the_last_bit(phi, rule):
    quarter, three = (np.percentile(phi, p, axis=-1, method=rule) for p in (25, 75))
    found = _loo.iqr(torch.from_numpy(phi), rule).numpy()
    assert found.dtype == np.float32
    assert np.array_equal(found, three - quarter)


@pytest.mark.parametrize("rule", _loo.RULES)
def test_iqr_of_one_segment_is_zero(rule):
    assert _loo.iqr(torch.rand(5, 1), rule).tolist() == [0] * 5


@pytest.mark.parametrize("rule", _loo.RULES)
def test_iqr_of_the_first_numbers(rule):
    expected = {"linear": 49.5, "inverted_cdf": 50.0}[rule]
    assert _loo.iqr(torch.arange(100.0).flip(0), rule).item() == expected


def test_iqr_leaves_its_input_alone():
    phi = torch.tensor([[3.0, 1, 2]])
    _loo.iqr(phi)
    assert phi.tolist() == [[3, 1, 2]]


def test_another_rule_is_told():
    with pytest.raises(BadInput, match="did you mean 'linear'"):
        _loo.iqr(torch.rand(1, 3), "liner")


def test_features_are_the_spread_of_each_image(model, images, segments):
    outputs = _nodes.probabilities(model)
    whole, spread = _loo.iqr_features(images, segments, outputs, "black", "inverted_cdf", batch=16)
    assert whole.shape == spread.shape == (len(images), CLASSES)
    assert not spread[0].any()  # one segment
    for i, (_, phi) in enumerate(_loo.leave_one_out(images, segments, outputs, "black", 16)):
        assert torch.equal(spread[i], _loo.iqr(phi, "inverted_cdf"))
    found = _loo.representations(whole, spread, CLASSES)
    top = whole.argmax(1)
    assert found["predicted"].flatten().tolist() == [spread[i, top[i]] for i in range(len(top))]
    assert torch.equal(found["probabilities"], spread)


def test_representations_of_hidden_nodes_end_in_the_probabilities():
    whole = torch.tensor([[9.0, 0.2, 0.8]])
    spread = torch.tensor([[1.0, 2.0, 3.0]])
    found = _loo.representations(whole, spread, classes=2)
    assert found["predicted"].tolist() == [[3]]
    assert found["probabilities"].tolist() == [[2, 3]]
    assert found["hidden"].tolist() == [[1, 2, 3]]
