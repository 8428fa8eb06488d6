"""The gradient attacks against closed forms, the papers' formulas and foolbox."""

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

from advdenoise.attacks import gradient
from advdenoise.attacks._ball import limits
from advdenoise.calls import call_with
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

EPSILON, ALPHA, STEPS = 0.1, 0.03, 6
CASES = {
    "fgsm": (gradient.fgsm, {"epsilon": EPSILON}),
    "bim": (gradient.bim, {"epsilon": EPSILON, "steps": STEPS, "alpha": ALPHA}),
    "pgd": (gradient.pgd, {"epsilon": EPSILON, "steps": STEPS, "alpha": ALPHA}),
    "mi_fgsm": (gradient.mi_fgsm, {"epsilon": EPSILON, "steps": STEPS, "alpha": ALPHA}),
    "r_fgsm": (gradient.r_fgsm, {"epsilon": EPSILON, "start_radius": 0.04}),
}
every_attack = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def network():
    """A smooth tiny network in float64: its gradients do not vanish."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(128, 5)]
    return nn.Sequential(*layers).double().eval()


@pytest.fixture(scope="module")
def images():
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, 0] = 0  # rows at both ends of the range, where clipping matters
    images[:, :, 1] = 1
    return images


@pytest.fixture(scope="module")
def labels():
    return torch.arange(12) % 5


def run(name, predict, images, labels, ids=range(12), targeted=False, **changes):
    function, values = CASES[name]
    return call_with(
        functools.partial(function, **{**values, **changes}),
        images=images,
        labels=labels,
        targeted=targeted,
        predict=predict,
        noise=Noise(0, ids, "test"),
    )


def losses(network, images, labels):
    return functional.cross_entropy(network(images), labels, reduction="none")


def project(moved, image, epsilon):
    return moved.clamp(image - epsilon, image + epsilon).clamp(0, 1)


def gradient_of(network, image, label):
    leaf = image.clone().requires_grad_()
    loss = functional.cross_entropy(network(leaf[None]), label[None])
    return torch.autograd.grad(loss, leaf)[0]


def by_the_formula(name, network, image, label, sign, start):
    """The adversarial image of one image by the papers' equations."""
    if name == "fgsm":
        gradient = gradient_of(network, image, label)
        return project(image + EPSILON * sign * gradient.sign(), image, EPSILON)
    if name == "r_fgsm":
        x = (image + start).clamp(0, 1)
        return (x + EPSILON * sign * gradient_of(network, x, label).sign()).clamp(0, 1)
    x = project(image + start, image, EPSILON) if name == "pgd" else image
    momentum = torch.zeros_like(image)
    for _ in range(STEPS):
        direction = gradient_of(network, x, label)
        if name == "mi_fgsm":
            momentum = 1.0 * momentum + direction / (direction.abs().sum() + 1e-12)
            direction = momentum
        x = project(x + ALPHA * sign * direction.sign(), image, EPSILON)
    return x


@every_attack
@pytest.mark.parametrize("targeted", [False, True])
def test_equals_the_formula_image_by_image(name, targeted, network, images, labels):
    perturbation = run(name, network, images, labels, targeted=targeted)
    radius = {"pgd": EPSILON, "r_fgsm": 0.04}.get(name, 0)
    starts = Noise(0, range(12), "test").uniform(images, -radius, radius)
    sign = -1 if targeted else 1
    expected = [
        by_the_formula(name, network, image, label, sign, start)
        for image, label, start in zip(images, labels, starts, strict=True)
    ]
    assert torch.allclose(images + perturbation, torch.stack(expected), rtol=0, atol=1e-7)


def test_momentum_decay_changes_the_result(network, images, labels):
    without = run("mi_fgsm", network, images, labels, mu=0.0)
    assert torch.equal(without, run("bim", network, images, labels))
    assert not torch.equal(without, run("mi_fgsm", network, images, labels))


def test_fgsm_is_optimal_for_a_linear_model():
    weights = torch.randn(2, 48, generator=torch.Generator().manual_seed(2)).double()
    images = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    labels = torch.arange(20) % 2

    def predict(batch):
        return batch.flatten(1) @ weights.T

    perturbation = run("fgsm", predict, images, labels, epsilon=0.05)
    # The loss increases with the other class's lead, which is linear: the best corner is known.
    lead = (weights[1 - labels] - weights[labels]).view_as(images)
    lower, upper = limits(images, 0.05)
    best = torch.where(lead > 0, upper, lower)
    assert torch.allclose(perturbation, best, rtol=0, atol=1e-8)
    corner = (best * lead).sum((1, 2, 3)) + (images * lead).sum((1, 2, 3))
    assert torch.allclose(
        losses(predict, images + perturbation, labels), functional.softplus(corner)
    )


@pytest.mark.parametrize(
    ("name", "targeted"),
    [("fgsm", False), ("bim", False), ("bim", True), ("pgd", False), ("pgd", True)],
)
def test_agrees_with_foolbox(name, targeted, network, images, labels, monkeypatch):
    """MI-FGSM is left out: foolbox's momentum follows another rule than the paper's."""
    steps = {} if name == "fgsm" else {"abs_stepsize": ALPHA, "steps": STEPS}
    peers = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack,
        "bim": foolbox.attacks.LinfBasicIterativeAttack,
        "pgd": foolbox.attacks.LinfProjectedGradientDescentAttack,
    }
    peer = peers[name](random_start=name == "pgd", **steps)
    start = Noise(0, range(12), "test").uniform(images, -EPSILON, EPSILON)
    monkeypatch.setattr(
        peer, "get_random_start", lambda x, _: type(x)((x.raw + start).clamp(0, 1)), raising=False
    )
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    criterion = foolbox.criteria.Misclassification(labels)
    if targeted:
        labels = (labels + 1) % 5
        criterion = foolbox.criteria.TargetedMisclassification(labels)
    _, theirs, success = peer(model, images, criterion, epsilons=EPSILON)

    ours = images + run(name, network, images, labels, targeted=targeted)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)
    reached = network(ours).argmax(1) == labels
    assert torch.equal(reached if targeted else ~reached, success)
    for order in (2, math.inf):
        norms = [(x - images).flatten(1).norm(order, 1) for x in (ours, theirs)]
        assert torch.allclose(*norms, rtol=1e-6)


@every_attack
def test_neither_batch_nor_order_matters(name, network, images, labels):
    together = run(name, network, images, labels)
    halves = [
        run(name, network, images[part], labels[part], range(12)[part])
        for part in (slice(0, 5), slice(5, 12))
    ]
    assert torch.equal(torch.cat(halves), together)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    shuffled = run(name, network, images[order], labels[order], order)
    assert torch.equal(shuffled, together[order])


@every_attack
def test_untargeted_raises_and_targeted_lowers_the_loss(name, network, images, labels):
    before = losses(network, images, labels)
    raised = run(name, network, images, labels)
    lowered = run(name, network, images, labels, targeted=True)
    assert (losses(network, images + raised, labels) > before).all()
    assert (losses(network, images + lowered, labels) < before).all()


@every_attack
def test_a_budget_of_zero_leaves_the_image_unchanged(name, network, images, labels):
    changes = {"start_radius": 0.0} if name == "r_fgsm" else {}
    assert not run(name, network, images, labels, epsilon=0.0, **changes).any()


@every_attack
def test_each_image_may_have_its_own_epsilon(name, network, images, labels):
    epsilons = [0.0, 0.02, 0.3] * 4
    changes = {} if name in ("fgsm", "r_fgsm") else {"alpha": None, "alpha_per_epsilon": 0.3}
    epsilon = torch.tensor(epsilons, dtype=torch.float64).view(12, 1, 1, 1)
    together = run(name, network, images, labels, epsilon=epsilon, **changes)
    for i, radius in enumerate(epsilons):
        row = slice(i, i + 1)
        alone = run(name, network, images[row], labels[row], [i], epsilon=radius, **changes)
        assert torch.allclose(alone, together[row], rtol=0, atol=1e-7)


@every_attack
def test_a_zero_gradient_moves_nothing(name, images, labels):
    def constant(batch):
        return batch.flatten(1)[:, :5] * 0

    radius = {"pgd": EPSILON, "r_fgsm": 0.04}.get(name, 0)
    start = Noise(0, range(12), "test").uniform(images, -radius, radius).double()
    expected = start.clamp(*limits(images, radius))
    assert torch.equal(run(name, constant, images, labels), expected)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["bim", "pgd", "mi_fgsm"])
def test_an_image_without_finite_gradient_keeps_its_last_perturbation(
    name, poison, network, images, labels
):
    calls = []

    def failing(batch):
        calls.append(None)
        factor = torch.ones(12, 1).double()
        factor[3] = poison if len(calls) > 2 else 1
        return network(batch) * factor

    perturbation = run(name, failing, images, labels)
    assert len(calls) == STEPS and perturbation.isfinite().all()
    others = torch.arange(12) != 3
    assert torch.equal(perturbation[others], run(name, network, images, labels)[others])
    assert torch.equal(perturbation[3], run(name, network, images, labels, steps=2)[3])


@pytest.mark.parametrize("name", ["fgsm", "r_fgsm"])
def test_one_step_without_finite_gradient(name, network, images, labels):
    perturbation = run(name, lambda batch: network(batch) * math.nan, images, labels)
    radius = 0.04 if name == "r_fgsm" else 0
    assert perturbation.isfinite().all() and perturbation.abs().max() <= radius


@every_attack
@settings(max_examples=25, deadline=None)
@given(
    epsilon=st.floats(0, 1),
    share=st.floats(0, 2),
    seed=st.integers(0, 99),
    targeted=st.booleans(),
)
def test_always_inside_ball_and_unit_interval(name, epsilon, share, seed, targeted):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 1, 4, 4, generator=generator)
    images[0, 0, 0] = torch.tensor([0.0, 1.0, 1e-9, 1 - 2**-24])
    weights = torch.randn(16, 4, generator=generator)
    radius = epsilon + 0.04 if name == "r_fgsm" else epsilon

    def predict(batch):
        assert batch.min() >= 0 and batch.max() <= 1
        assert ((batch - images).abs() <= radius + 1e-6).all()
        return batch.flatten(1).square() @ weights

    changes = {} if name in ("fgsm", "r_fgsm") else {"alpha": None, "alpha_per_epsilon": share}
    labels = torch.tensor([0, 1, 2])
    perturbation = run(
        name, predict, images, labels, range(3), targeted, epsilon=epsilon, **changes
    )
    predict(images + perturbation)
    assert (perturbation.abs() <= torch.tensor(radius)).all()


numbers = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)
moves = st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4)


@given(numbers, moves, st.floats(0, 2, width=32), st.floats(0, 2, width=32))
def test_projection(pixels, moves, first, second):
    images = torch.tensor(pixels).view(2, 1, 1, 2)
    epsilon = torch.tensor([first, second]).view(2, 1, 1, 1)
    lower, upper = limits(images, epsilon)
    assert (lower <= 0).all() and (upper >= 0).all()
    projected = torch.tensor(moves).view(2, 1, 1, 2).clamp(lower, upper)
    assert (projected.abs() <= epsilon).all()
    assert ((images + projected >= 0) & (images + projected <= 1)).all()
    assert torch.equal(projected.clamp(lower, upper), projected)
    inside = torch.zeros_like(images)
    assert torch.equal(inside.clamp(lower, upper), inside)
    assert torch.equal(limits(images[1:], second)[1], upper[1:])


def test_kurakin_step_rule(network, images, labels):
    """Cho et al. 2019, I-FGSM: steps for its six epsilons."""
    epsilons = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032]
    expected = [1, 2, 3, 4, 5, 10]
    kurakin = {"steps": "kurakin", "alpha": 0.25 / 255}
    for epsilon, count in zip(epsilons, expected, strict=True):
        for budget in (epsilon, torch.full((12, 1, 1, 1), epsilon)):
            ruled = run("bim", network, images, labels, epsilon=budget, **kurakin)
            counted = {"epsilon": budget, "steps": count, "alpha": 0.25 / 255}
            assert torch.equal(ruled, run("bim", network, images, labels, **counted))

    mixed = torch.tensor(epsilons * 2).view(12, 1, 1, 1)
    together = run("bim", network, images, labels, epsilon=mixed, **kurakin)
    for i in range(12):
        row = slice(i, i + 1)
        alone = run("bim", network, images[row], labels[row], epsilon=mixed[row], **kurakin)
        assert torch.equal(alone, together[row])


@pytest.mark.parametrize("sizes", [{"alpha": None}, {"alpha_per_epsilon": 0.1}])
@pytest.mark.parametrize("name", ["bim", "pgd", "mi_fgsm"])
def test_exactly_one_step_size(name, sizes, network, images, labels):
    with pytest.raises(BadInput, match="either alpha .* or alpha_per_epsilon"):
        run(name, network, images, labels, **sizes)


def test_unknown_step_rule(network, images, labels):
    with pytest.raises(BadInput, match="a number of steps or 'kurakin', got 'curacao'"):
        run("bim", network, images, labels, steps="curacao")


@every_attack
def test_has_no_side_effects(name, network, images, labels):
    nhwc = images.float().to(memory_format=torch.channels_last)
    before = nhwc.clone()
    network = copy.deepcopy(network).float()
    with torch.no_grad():
        perturbation = run(name, network, nhwc, labels)
    assert torch.equal(nhwc, before) and not nhwc.requires_grad
    assert all(weight.grad is None for weight in network.parameters())
    assert perturbation.dtype == torch.float32 and not perturbation.requires_grad
    assert perturbation.is_contiguous(memory_format=torch.channels_last)
