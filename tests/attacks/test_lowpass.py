"""The low-frequency attack: its filters, its start, the ball and the search."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import lowpass
from advdenoise.attacks._predict import margin
from advdenoise.attacks.lowpass import filters
from advdenoise.errors import BadInput

N, SIZES = 6, (5, 7, 5, 3)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(216, 4)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    """Smooth images with black and white parts."""
    coarse = torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.3
    return functional.interpolate(coarse, 12, mode="bilinear").clamp(0, 1)


@pytest.fixture(scope="module")
def labels(network, images):
    return network(images).argmax(1)


def run(images, labels, network, targeted=False, **changes):
    return filters(images, labels, targeted, network, **{"epsilon": 0.1, "steps": 10} | changes)


def unmoved(images, sizes=SIZES, sigma=0.05):
    """The images after the filters of the start."""
    centre = ((images * 2 - 1) * lowpass.SHRINK).atanh()
    colours = [lowpass._colour_weights(images, size, sigma) for size in sizes]
    return lowpass._changed(centre, [lowpass._start(images, s) for s in sizes], colours, sizes)


def test_the_start_is_nearly_the_image(images):
    for given in (images, torch.rand(images.shape)):
        assert (unmoved(given) - given).abs().max() < 1e-3


def random_logits(images, sizes=SIZES):
    generator = torch.Generator().manual_seed(2)
    count, _, height, width = images.shape
    shapes = [(count, ((size + 1) // 2) ** 2, height, width) for size in sizes]
    return [3 * torch.randn(shape, generator=generator) for shape in shapes]


def test_constant_images_stay_constant_and_all_stay_in_the_unit_interval(images):
    logits = random_logits(images)
    for given in (torch.full_like(images, 0.3), images):
        colours = [lowpass._colour_weights(given, size, 0.05) for size in SIZES]
        centre = ((given * 2 - 1) * lowpass.SHRINK).atanh()
        changed = lowpass._changed(centre, logits, colours, SIZES)
        assert changed.min() >= 0 and changed.max() <= 1 + 1e-6
        if given is images:
            assert (changed - given).abs().max() > 0.05
        else:
            assert torch.allclose(changed, given, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_a_filter_is_as_defined(size, images):
    """Pixel by pixel, with places outside reflected."""
    images, sigma, half = images[:1, :, :7, :8].double(), 0.4, size // 2
    (logits,) = random_logits(images.float(), [size])
    logits = logits.double()
    colours = [lowpass._colour_weights(images, size, sigma)]
    inputs = ((images * 2 - 1) * lowpass.SHRINK).atanh()
    result = lowpass._changed(inputs, [logits], colours, [size])
    shrunk = (inputs.tanh() + 1) / 2

    def reflected(place, length):
        place = abs(place)
        return 2 * (length - 1) - place if place >= length else place

    for row, column in ((0, 0), (3, 4), (6, 7), (1, 6)):
        weights, values = [], []
        exponents = []
        for i in range(size):
            for j in range(size):
                quarter = min(i, size - 1 - i) * (half + 1) + min(j, size - 1 - j)
                other = reflected(row + i - half, 7), reflected(column + j - half, 8)
                difference = images[0, :, row, column] - images[0, :, other[0], other[1]]
                exponents.append(-(difference.abs().sum().item() ** 2) / (2 * sigma**2))
                weights.append(logits[0, quarter, row, column].item())
                values.append(shrunk[0, :, other[0], other[1]])
        spatial = torch.tensor(weights).double().softmax(0)
        weights = spatial * torch.tensor(exponents).double().exp()
        expected = sum(w * v for w, v in zip(weights / weights.sum(), values, strict=True))
        assert torch.allclose(result[0, :, row, column], expected, atol=1e-12)


def test_logits_start_as_a_narrow_gaussian(images):
    logits = lowpass._start(images, 5)
    assert logits.shape == (N, 9, 12, 12)
    expected = torch.full((9,), math.log(1e-5))
    expected[8] = math.log(0.999999)
    assert torch.allclose(logits, expected.view(1, 9, 1, 1).expand_as(logits), atol=1e-7)


def test_it_stays_in_ball_and_unit_interval(network, images, labels):
    epsilon = torch.linspace(0.0, 0.2, N).view(-1, 1, 1, 1)
    result = run(images, labels, network, epsilon=epsilon, steps=30)
    assert (result.abs() <= epsilon).all() and result[1:].flatten(1).any(1).all()
    assert (images + result).min() >= 0 and (images + result).max() <= 1


@pytest.mark.parametrize("targeted", [False, True])
def test_margins_fall_and_the_lowest_is_kept(targeted, network, images, labels):
    labels = (labels + 1) % 4 if targeted else labels
    margins = [
        margin(network(images + run(images, labels, network, targeted, steps=k)), labels, targeted)
        for k in (1, 10, 40)
    ]
    clean = margin(network(images), labels, targeted)
    assert (margins[0] < clean).all()
    assert (margins[1] <= margins[0]).all() and (margins[2] <= margins[1]).all()
    assert (margins[2] < margins[0] - 0.1).all()


def test_filters_alone_change_no_constant_image(network, images, labels):
    flat = images[:, :, :1, :1].expand(-1, -1, 12, 12).clone()
    alone = {"tanh_rate": 1e-9, "filter_rate": 1.0, "steps": 20}
    assert run(flat, labels, network, **alone).abs().max() < 1e-5
    assert run(images, labels, network, **alone).flatten(1).abs().amax(1).min() > 0.01


def test_images_do_not_influence_each_other(network, images, labels):
    whole = run(images, labels, network)
    rows = torch.tensor([4, 1])
    assert torch.allclose(run(images[rows], labels[rows], network), whole[rows], atol=1e-5)


def test_gradients_are_clipped_image_by_image(network, images, labels):
    """So that losses in another unit move an image no further, once they are above the norm 1."""
    results = [
        run(images, labels, lambda inputs, f=factor: f * network(inputs), steps=5)
        for factor in (1e4, 1e6)
    ]
    assert torch.allclose(*results, atol=1e-5)


def test_images_without_a_finite_gradient_rest(network, images, labels):
    broken = torch.tensor([True, False] * 3)

    def predict(inputs):
        outputs = network(inputs)
        if inputs.requires_grad:
            rest = broken.view(-1, 1, 1, 1)
            inputs.register_hook(lambda gradient: gradient.masked_fill(rest, math.nan))
        return outputs

    result = run(images, labels, predict)
    still = (unmoved(images) - images).clamp(-0.1, 0.1)
    assert torch.allclose(result[broken], still[broken], atol=1e-6)
    assert torch.equal(result[~broken], run(images, labels, network)[~broken])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([5, 4], r"settings\.sizes\.1: must be odd, got 4"),
        ([25], r"settings\.sizes\.0: a filter of 25 needs images of at least 13 pixels"),
    ],
)
def test_refuses_sizes(sizes, message, network, images, labels):
    with pytest.raises(BadInput, match=message):
        run(images, labels, network, sizes=sizes)


def test_masks_are_refused(network, images):
    with pytest.raises(BadInput, match=r"lowpass\.filters needs one label per image"):
        run(images, torch.zeros(N, 12, 12, dtype=torch.int64), network)
