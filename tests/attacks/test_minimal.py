"""DeepFool and C&W against foolbox, closed forms of linear classifiers, and their contract."""

import copy
import functools
import math

import foolbox
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from advdenoise.attacks.minimal import carlini_wagner, deepfool
from advdenoise.datasets.embedded import digits
from advdenoise.errors import BadInput
from advdenoise.training._optimisers import Optimiser

MEAN, STD = 120.70748 / 255, 64.150024 / 255
DEEPFOOL = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}
SEARCH = {"binary_search_steps": 6, "steps": 40}
norms = pytest.mark.parametrize("norm", DEEPFOOL)
outputs = pytest.mark.parametrize("output", ["logits", "probabilities"])


def prepared(images, labels):
    """Images and labels of digits as tensors, the images at half the resolution."""
    pixels = torch.from_numpy(images).float().div_(255)
    return functional.avg_pool2d(pixels, 2), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def network():
    """A small smooth CNN, briefly trained: correct on most digits."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.Tanh(), nn.Conv2d(8, 16, 3, 2, 1), nn.Tanh()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    source = digits()
    optimiser = Optimiser(network, {"name": "adam", "lr": 5e-3}, "test")
    for _ in range(100):
        ids = torch.randint(1437, (64,)).numpy()
        images, labels = prepared(source.read(ids), source.labels(ids))
        optimiser.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimiser.step(5e-3)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch(network):
    """24 test images, 20 of them classified correctly: images, labels, correctness."""
    source = digits()
    ids = range(1437, 1797)
    images, labels = prepared(source.read(ids), source.labels(ids))
    right = network(images).argmax(1) == labels
    assert right.float().mean() > 0.7
    rows = torch.cat([right.nonzero()[:20, 0], (~right).nonzero()[:4, 0]]).sort().values
    return images[rows], labels[rows], right[rows]


class Output(nn.Module):
    """Logits or probabilities of the network, for foolbox also from z-scored images."""

    def __init__(self, network, output, z_scored=False):
        super().__init__()
        self.network, self.output, self.z_scored = network, output, z_scored

    def forward(self, images):
        logits = self.network(images * STD + MEAN if self.z_scored else images)
        return logits.softmax(1) if self.output == "probabilities" else logits


def by_foolbox(attack, network, output, images, criterion, z_scored=False, epsilon=None):
    """foolbox's clipped perturbation in pixel units."""
    mean, std = (MEAN, STD) if z_scored else (0.0, 1.0)
    bounds = ((0 - mean) / std, (1 - mean) / std)
    model = foolbox.PyTorchModel(Output(network, output, z_scored).eval(), bounds=bounds)
    inputs = ((images - mean) / std).clamp(*bounds)
    clipped = attack(model, inputs, criterion, epsilons=epsilon)[1]
    return clipped * std + mean - images


def lengths(perturbation, norm="l2"):
    return perturbation.flatten(1).norm(2 if norm == "l2" else math.inf, dim=1)


def is_misclassified(network, images, labels, perturbation):
    return network(images + perturbation).argmax(1) != labels


def assert_alike(result, expected, norm="l2"):
    """Equal lengths: mean and median within 1e-3, and most images within 1e-3 of their own."""
    ours, theirs = lengths(result, norm), lengths(expected, norm)
    assert ours.mean() == pytest.approx(theirs.mean().item(), rel=1e-3)
    assert ours.median() == pytest.approx(theirs.median().item(), rel=1e-3)
    difference = lengths(result - expected, norm)
    # foolbox moves misclassified images by the rounding error of tanh and its inverse.
    assert (difference <= 1e-3 * theirs + 2e-5).float().mean() > 0.9


# ---------------------------------------------------------------- DeepFool


@norms
@outputs
@pytest.mark.parametrize("epsilon", [None, 0.03])
def test_deepfool_equals_foolbox(norm, output, epsilon, network, batch):
    images, labels, right = batch
    result = deepfool(images, labels, Output(network, output), norm=norm, epsilon=epsilon)
    criterion = foolbox.criteria.Misclassification(labels)
    expected = by_foolbox(DEEPFOOL[norm](), network, output, images, criterion, epsilon=epsilon)
    assert_alike(result[right], expected[right], norm)
    success = is_misclassified(network, images, labels, result)
    assert torch.equal(success, is_misclassified(network, images, labels, expected))
    assert success.all() if epsilon is None else not success.all()


@norms
@pytest.mark.parametrize("changes", [{"candidates": 3}, {"steps": 1}, {"overshoot": 0.5}])
def test_deepfool_equals_foolbox_with_other_settings(norm, changes, network, batch):
    images, labels, right = batch
    result = deepfool(images, labels, network, norm=norm, **changes)
    criterion = foolbox.criteria.Misclassification(labels)
    expected = by_foolbox(DEEPFOOL[norm](**changes), network, "logits", images, criterion)
    assert_alike(result[right], expected[right], norm)
    assert not torch.allclose(result, deepfool(images, labels, network, norm=norm))


@pytest.fixture(scope="module")
def linear():
    """A linear classifier in float64, images far from 0 and 1, labels, margins and gradients."""
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(16, 5, generator=generator).double()
    images = torch.rand(10, 1, 4, 4, generator=generator).double() / 10 + 0.45

    def predict(batch):
        return batch.flatten(1).to(weights.dtype) @ weights

    labels = predict(images).argmax(1)
    leads = predict(images).gather(1, labels[:, None]) - predict(images)
    gradients = weights.T[labels][:, None] - weights.T[None]
    return predict, images, labels, leads, gradients


def distances(leads, gradients, labels, order):
    """Distances to the boundary of each class, infinite for the label."""
    difference = leads / gradients.norm(order, dim=2).clamp(min=1e-12)
    return difference.scatter(1, labels[:, None], math.inf)


@norms
def test_deepfool_of_a_linear_classifier_is_the_nearest_point(norm, linear):
    predict, images, labels, leads, gradients = linear
    result = deepfool(images, labels, predict, norm=norm).flatten(1)
    boundaries = distances(leads, gradients, labels, 1 if norm == "linf" else 2)
    length, competitor = boundaries.min(1)
    direction = -gradients[torch.arange(10), competitor]
    if norm == "linf":
        direction = direction.sign()
    else:
        direction = direction / direction.norm(dim=1, keepdim=True)
    expected = 1.02 * (length + 1e-4)[:, None] * direction
    assert expected.abs().max() < 0.45
    assert torch.allclose(result, expected, rtol=1e-6, atol=1e-9)


def test_deepfool_continues_only_with_correctly_classified_images(network, batch):
    images, labels, right = batch
    calls = []

    def predict(inputs):
        calls.append((len(inputs), torch.is_grad_enabled()))
        return network(inputs)

    deepfool(images, labels, predict)
    forward_only = [count for count, with_gradient in calls if not with_gradient]
    steps = [count for count, with_gradient in calls if with_gradient]
    assert forward_only == [24, *steps] and steps[0] == right.sum() and steps[-1] < steps[0]
    assert steps == sorted(steps, reverse=True)


@norms
def test_deepfool_has_an_epsilon_for_each_image(norm, network, batch):
    images, labels, _ = batch
    epsilon = torch.tensor([0.0, 0.02, 3.0] * 8, dtype=torch.float64).view(-1, 1, 1, 1)
    free = deepfool(images, labels, network, norm=norm)
    result = deepfool(images, labels, network, norm=norm, epsilon=epsilon)
    assert result.dtype == torch.float32
    assert (lengths(result, norm) <= epsilon.flatten() * (1 + 1e-6)).all()
    assert not result[::3].any() and torch.allclose(result[2::3], free[2::3])
    for row in range(3):
        rows, own_epsilon = slice(row, row + 1), epsilon[row].item()
        alone = deepfool(images[rows], labels[rows], network, norm=norm, epsilon=own_epsilon)
        assert torch.allclose(alone, result[rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm": "l1"}, "must be linf or l2, got 'l1'"),
        ({"candidates": 1}, "must be at least 2, got 1"),
    ],
)
def test_deepfool_refuses(wrong, message, network, batch):
    with pytest.raises(BadInput, match=message):
        deepfool(*batch[:2], network, **wrong)


# ---------------------------------------------------------------- C&W


def cw_of_foolbox(network, output, images, criterion, z_scored=False, **changes):
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        **{"abort_early": False, "stepsize": 0.05, **SEARCH, **changes}
    )
    return by_foolbox(attack, network, output, images, criterion, z_scored)


def cw(network, output, images, labels, targeted=False, **changes):
    options = {"stepsize": 0.05, **SEARCH, **changes}
    return carlini_wagner(images, labels, targeted, Output(network, output), **options)


@outputs
@pytest.mark.parametrize("z_scored", [False, True])
def test_cw_equals_foolbox(output, z_scored, network, batch):
    images, labels, _ = batch
    scale = {"unit": STD, "fill": MEAN} if z_scored else {"fill": 0.0}
    result = cw(network, output, images, labels, **scale)
    criterion = foolbox.criteria.Misclassification(labels)
    expected = cw_of_foolbox(network, output, images, criterion, z_scored)
    assert_alike(result, expected)
    success = is_misclassified(network, images, labels, result)
    assert torch.equal(success, is_misclassified(network, images, labels, expected))


@pytest.mark.parametrize("stepsize", [0.01, 0.05])
def test_unit_is_exact_and_a_scaled_const_is_not(stepsize, network, batch):
    """In float64, for probabilities, whose gradients are small."""
    images, labels, right = (tensor[batch[2]] for tensor in batch)
    network = copy.deepcopy(network).double()
    certain = nn.Sequential(network, Scaled(2.0))
    options = {"stepsize": stepsize, "fill": MEAN}
    result = cw(certain, "probabilities", images.double(), labels, unit=STD, **options)
    const = cw(
        certain, "probabilities", images.double(), labels, initial_const=1e-3 * STD**2, **options
    )
    criterion = foolbox.criteria.Misclassification(labels)
    expected = cw_of_foolbox(
        certain, "probabilities", images.double(), criterion, z_scored=True, stepsize=stepsize
    )
    assert torch.allclose(result, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(const, expected, rtol=0, atol=1e-6)


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits):
        return logits * self.factor


@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_targeted_cw_equals_foolbox(confidence, network, batch):
    images, labels, _ = batch
    targets = (labels + 1 + torch.arange(24) % 9) % 10
    result = cw(network, "logits", images, targets, targeted=True, confidence=confidence)
    criterion = foolbox.criteria.TargetedMisclassification(targets)
    expected = cw_of_foolbox(network, "logits", images, criterion, confidence=confidence)
    assert_alike(result, expected)
    logits = network(images + result)
    others = logits.scatter(1, targets[:, None], -math.inf).amax(1)
    assert (logits.gather(1, targets[:, None])[:, 0] - others > confidence - 1e-4).all()


def test_confidence_costs_distance(network, batch):
    images, labels, right = batch
    free = cw(network, "logits", images, labels)
    confident = cw(network, "logits", images, labels, confidence=2.0)
    assert (lengths(confident)[right] > lengths(free)[right]).all()
    logits = network(images + confident)
    others = logits.scatter(1, labels[:, None], -math.inf).amax(1)
    assert (others - logits.gather(1, labels[:, None])[:, 0] > 2.0 - 1e-4).all()
    criterion = foolbox.criteria.Misclassification(labels)
    expected = cw_of_foolbox(network, "logits", images, criterion, confidence=2.0)
    assert_alike(confident, expected)


def test_the_last_of_many_searches_repeats_the_smallest_const(network, batch):
    images, labels, _ = batch
    search = {"binary_search_steps": 10, "steps": 12}
    result = cw(network, "logits", images, labels, fill=0.0, **search)
    criterion = foolbox.criteria.Misclassification(labels)
    assert_alike(result, cw_of_foolbox(network, "logits", images, criterion, **search))


def test_cw_is_no_worse_than_with_early_stopping(network, batch):
    images, labels, right = batch
    result = cw(network, "logits", images, labels)
    criterion = foolbox.criteria.Misclassification(labels)
    stopped = cw_of_foolbox(network, "logits", images, criterion, abort_early=True)
    assert is_misclassified(network, images, labels, result).all()
    assert lengths(result)[right].mean() <= lengths(stopped)[right].mean()


@pytest.mark.parametrize("z_scored", [False, True])
def test_cw_with_abort_early_equals_foolbox_on_single_images(z_scored, network, batch):
    """foolbox checks the objective summed over the batch, here of one image."""
    images, labels = batch[0][:6].double(), batch[1][:6]
    network = copy.deepcopy(network).double()  # rounding would decide where a search ends
    scale = {"unit": STD, "fill": MEAN} if z_scored else {"fill": 0.0}
    options = {"steps": 60, "stepsize": 0.2, "initial_const": 1e-3}
    result = cw(network, "logits", images, labels, abort_early=True, **options, **scale)
    expected = torch.cat(
        [
            cw_of_foolbox(
                network,
                "logits",
                image[None],
                foolbox.criteria.Misclassification(label[None]),
                z_scored,
                abort_early=True,
                **options,
            )
            for image, label in zip(images, labels, strict=True)
        ]
    )
    assert_alike(result, expected)
    together = cw(network, "logits", images, labels, **options, **scale)
    assert not torch.allclose(lengths(result), lengths(together), rtol=1e-4)
    alone = [
        cw(
            network,
            "logits",
            images[i, None],
            labels[i, None],
            abort_early=True,
            **options,
            **scale,
        )
        for i in range(6)
    ]
    assert torch.allclose(torch.cat(alone), result, rtol=0, atol=1e-9)


def test_cw_of_a_linear_classifier_is_close_to_the_nearest_point(linear):
    predict, images, labels, leads, gradients = linear
    result = carlini_wagner(images, labels, False, predict, steps=200)
    nearest = distances(leads, gradients, labels, 2).amin(1)
    assert (predict(images + result).argmax(1) != labels).all()
    assert (lengths(result) >= nearest * (1 - 1e-6)).all()
    assert (lengths(result) <= nearest * 1.03).all()


def test_targeted_cw_of_a_linear_classifier_is_close_to_the_nearest_point():
    """With two classes, whose boundary is a single hyperplane."""
    generator = torch.Generator().manual_seed(6)
    weights = torch.randn(16, 2, generator=generator).double()
    images = torch.rand(8, 1, 4, 4, generator=generator).double() / 10 + 0.45

    def predict(batch):
        return batch.flatten(1) @ weights

    first = predict(images).argmax(1)
    result = carlini_wagner(images, 1 - first, True, predict, steps=200)
    lead = (predict(images)[:, 0] - predict(images)[:, 1]).abs()
    nearest = lead / (weights[:, 0] - weights[:, 1]).norm()
    assert (predict(images + result).argmax(1) == 1 - first).all()
    assert torch.allclose(lengths(result), nearest, rtol=0.03)


def test_where_it_fails_an_image_is_unchanged_or_filled(network, batch):
    images, labels, right = batch
    too_short = {"steps": 1, "binary_search_steps": 1}
    unchanged = cw(network, "logits", images, labels, **too_short)
    assert not unchanged.any()
    filled = images + cw(network, "logits", images, labels, fill=MEAN, **too_short)
    assert torch.allclose(filled[right], torch.tensor(MEAN))
    assert torch.equal(filled[~right], images[~right])


# ---------------------------------------------------------------- both

ATTACKS = {
    "linf": functools.partial(deepfool, norm="linf"),
    "l2": functools.partial(deepfool, norm="l2"),
    "cw": lambda images, labels, predict, **options: carlini_wagner(
        images,
        labels,
        False,
        predict,
        **{"steps": 10, "stepsize": 0.1, "initial_const": 1.0, **options},
    ),
}
both = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


@both
def test_a_misclassified_image_is_left_unchanged(attack, network, batch):
    images, labels, right = batch
    result = attack(images, labels, network)
    assert not result[~right].any()
    assert not attack(images[~right], labels[~right], network).any()


@both
def test_a_zero_gradient_leaves_the_image_unchanged(attack, network, batch):
    images, labels, right = batch

    def certain(inputs):
        return (network(inputs) * 1e4).softmax(1)

    assert torch.equal(certain(images).amax(1), torch.ones(24))
    assert not attack(images, labels, certain).any()
    flat = attack(images, torch.zeros(24, dtype=torch.int64), lambda x: x.flatten(1)[:, :5] * 0)
    assert not flat.any()


@both
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_an_image_without_finite_gradient_stays_finite(attack, poison, network, batch):
    images, labels, right = batch
    row = right.nonzero()[0].item()
    marked = images.clone()
    marked[:, 0, 0, 0] = 0
    marked[row, 0, 0, 0] = 1

    def predict(inputs):
        marked_rows = inputs[:, 0, 0, 0] > 0.5
        return _Poisoned.apply(network(inputs), torch.where(marked_rows, poison, 0.0)[:, None])

    result = attack(marked, labels, predict)
    assert result.isfinite().all()
    assert (marked + result >= 0).all() and (marked + result <= 1).all()
    others = torch.arange(24) != row
    expected = attack(marked[others], labels[others], network)
    assert torch.allclose(result[others], expected, rtol=0, atol=1e-4)


class _Poisoned(torch.autograd.Function):
    """Identity that adds `poison` to the gradient."""

    @staticmethod
    def forward(ctx, outputs, poison):
        ctx.save_for_backward(poison)
        return outputs.clone()

    @staticmethod
    def backward(ctx, gradient):
        (poison,) = ctx.saved_tensors
        return gradient + poison, None


@both
def test_outputs_that_are_nan_give_a_finite_result(attack, batch):
    images, labels, _ = batch
    result = attack(images, labels, lambda inputs: inputs.flatten(1)[:, :10] * math.nan)
    assert result.isfinite().all()


@both
def test_neither_batch_nor_order_matters(attack, network, batch):
    images, labels, _ = batch
    network, images = copy.deepcopy(network).double(), images.double()
    together = attack(images, labels, network)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(attack(images[order], labels[order], network), together[order])
    halves = [attack(images[part], labels[part], network) for part in (slice(1), slice(1, 24))]
    assert torch.allclose(torch.cat(halves), together)


@both
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), size=st.floats(-6, 6), epsilon=st.floats(0, 1))
def test_always_finite_and_inside_ball_and_unit_interval(attack, seed, size, epsilon):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 1, 4, 4, generator=generator)
    images[0, 0, 0] = torch.tensor([0.0, 1.0, 1e-9, 1 - 2**-24])
    weights = torch.randn(16, 4, generator=generator) * 10**size

    def predict(inputs):
        assert inputs.isfinite().all() and inputs.min() >= 0 and inputs.max() <= 1
        return (inputs.flatten(1).square() @ weights).softmax(1)

    labels = predict(images).argmax(1)
    result = attack(images, labels, predict)
    predict(images + result)
    if attack is not ATTACKS["cw"]:
        projected = attack(images, labels, predict, epsilon=epsilon)
        assert (projected.abs() <= torch.tensor(epsilon)).all()
        length = lengths(projected, attack.keywords["norm"])
        assert (length <= torch.tensor(epsilon) * (1 + 1e-5)).all()
        predict(images + projected)


@both
def test_has_no_side_effects(attack, batch):
    images, labels, _ = batch
    images = images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    before, labels_before = images.clone(), labels.clone()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.Flatten(), nn.Linear(36, 10)).eval()
    with torch.no_grad():
        labels = network(images).argmax(1)
        labels_before = labels.clone()
        result = attack(images, labels, network)
    assert torch.equal(images, before) and torch.equal(labels, labels_before)
    assert not images.requires_grad and not result.requires_grad
    assert result.any() and result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())
