"""APGD against pyautoattack, from the same starting points, and against closed forms."""

import copy
import math

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn

from advdenoise.attacks import _apgd, auto
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._predict import margin
from advdenoise.errors import BadInput
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise

COUNT, EPSILON = 40, 0.01
CHECKS = {
    10: [*range(2, 11)],
    20: [4, 7, *range(9, 21)],
    40: [8, 15, 21, 26, 30, 33, 35, 37, 39],
    90: [19, 36, 51, 64, 75, 84],
    100: [22, 41, 57, 70, 80, 87, 93, 99],
    120: [26, 49, 69, 86, 100, 111, 119],
}


@pytest.fixture(scope="module")
def network(images):
    """A smooth network that attacks fool on some of the images."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Softplus(), nn.Conv2d(8, 8, 3, 2, 1), nn.Softplus()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))
    network.eval().requires_grad_(False)
    with torch.no_grad():  # so that several classes are predicted
        network[5].weight *= 20
        network[5].bias -= network(images).mean(0)
    return network


@pytest.fixture(scope="module")
def images():
    return torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def labels(network, images):
    labels = network(images).argmax(1)
    labels[:3] = (labels[:3] + 1) % 10  # misclassified from the start
    return labels


def noise(rows=None, seed=0):
    return Noise(seed, range(COUNT) if rows is None else rows, "test")


def start(images, norm, epsilon):
    """The starting point of the first run, as the attack draws it."""
    if norm == "linf":
        point = noise().uniform(images, -1, 1)
        size = point.abs().amax((1, 2, 3), keepdim=True)
    else:
        point = noise().normal(images)
        size = point.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return (images + epsilon * point / size).clamp(0, 1)


class InFloat64:
    """A network whose rounding changes no sign of a gradient."""

    def __init__(self, network):
        self.network = copy.deepcopy(network).double()

    def __call__(self, inputs):
        return self.network(inputs.double()).float()


class Recorded:
    """A network that keeps its inputs."""

    def __init__(self, network):
        self.network, self.inputs = network, []

    def __call__(self, inputs):
        self.inputs.append(inputs.detach().clone())
        return self.network(inputs)


# ---------------------------------------------------------------- against pyautoattack


@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.filterwarnings("ignore:there are .* points with zero gradient")
def test_apgd_takes_the_steps_of_the_reference(network, images, labels, norm, loss, steps):
    """Until the label is the third class: from there on DLR is 1, and rounding decides."""
    network = InFloat64(network)
    epsilon = EPSILON if norm == "linf" else 0.1
    right = torch.arange(3, COUNT)
    x, y = images[right], labels[right]
    facts = Facts(COUNT)
    runs = {
        returns: auto.apgd(
            images,
            labels,
            False,
            network,
            noise(),
            facts,
            epsilon=epsilon,
            steps=steps,
            loss=loss,
            norm=norm,
            returns=returns,
        )[right]
        for returns in ("best", "fooled")
    }
    begin = start(images, norm, epsilon)[right]
    attack = APGDAttack(
        network,
        n_iter=steps,
        eps=epsilon,
        norm={"linf": "Linf", "l2": "L2"}[norm],
        seed=0,
        loss=loss,
        device="cpu",
    )
    attack.init_hyperparam(x)
    best, accurate, best_loss, fooling = attack.attack_single_run(x, y, x_init=begin)
    assert 0 < accurate.sum() < len(right)
    # At the best point of an L2 ball the loss is flat, so that rounding decides which step is best.
    tolerance = 1e-6 if norm == "linf" else 1e-4
    comparable = best_loss < 0.999 if loss == "dlr" else torch.ones_like(accurate)
    assert comparable.sum() >= 15
    for result, expected, rows in (
        (runs["best"], best, comparable),
        (runs["fooled"], fooling, comparable & ~accurate),
    ):
        distance = (x + result - expected).abs().amax((1, 2, 3))[rows]
        assert (distance <= tolerance).float().mean() >= 0.95
    arrays = facts.arrays()
    difference = torch.tensor(arrays["loss_best"])[right] - best_loss
    assert (difference.abs() <= 1e-5)[comparable].float().mean() >= 0.95
    assert torch.equal(torch.tensor(arrays["fooled_at"])[right] == -1, accurate)
    assert (arrays["fooled_at"][:3] == 0).all() and arrays["fooled_last"][:3].all()


@pytest.mark.parametrize("steps", [10, 20])
def test_targeted_runs_take_the_steps_of_the_reference(network, images, labels, steps):
    network = InFloat64(network)
    right = torch.arange(3, COUNT)
    x, y = images[right], labels[right]
    settings = {"epsilon": EPSILON, "steps": steps, "targets": 1}
    result = auto.apgd_t(images, labels, network, noise(), **settings)[right]
    attack = APGDAttack_targeted(
        network, n_iter=steps, eps=EPSILON, norm="Linf", seed=0, device="cpu"
    )
    attack.init_hyperparam(x)
    attack.y_target = network(x).topk(2, 1).indices[:, 1]
    begin = start(images, "linf", EPSILON)[right]
    _, accurate, _, fooling = attack.attack_single_run(x, y, x_init=begin)
    assert 0 < accurate.sum() < len(right)
    distance = (x + result - fooling).abs().amax((1, 2, 3))[~accurate]
    assert (distance <= 1e-6).float().mean() >= 0.95
    assert torch.equal(network(x + result).argmax(1) == y, accurate)


def test_all_targets_and_restarts_leave_the_accuracy_of_the_reference(network, images, labels):
    """Its random numbers are others."""
    right = torch.arange(3, COUNT)
    x, y = images[right], labels[right]
    for targets, epsilon in ((2, 0.01), (9, 0.005)):
        attack = APGDAttack_targeted(
            network,
            n_iter=20,
            eps=epsilon,
            norm="Linf",
            seed=0,
            device="cpu",
            n_target_classes=targets,
        )
        expected = network(attack.perturb(x, y)).argmax(1) == y
        settings = {"epsilon": epsilon, "steps": 20, "targets": targets}
        result = auto.apgd_t(images, labels, network, noise(), **settings)[right]
        assert abs((network(x + result).argmax(1) == y).sum() - expected.sum()) <= 2


# ---------------------------------------------------------------- checks and steps


@pytest.mark.parametrize("steps", CHECKS)
def test_checks_come_after_fewer_and_fewer_steps(steps, network, images, labels, monkeypatch):
    evaluated, checks = [], []
    monkeypatch.setattr(
        _apgd.Search, "_check", lambda self, state, length: checks.append(len(evaluated) - 1)
    )
    original = _apgd.Search._evaluate

    def evaluate(self, *arguments):
        if arguments[1] is not self._images:
            evaluated.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(_apgd.Search, "_evaluate", evaluate)
    auto.apgd(
        images[:1],
        network(images[:1]).argmax(1),
        False,
        network,
        noise([0]),
        epsilon=0.01,
        steps=steps,
    )
    # After the last step there is nothing to check for.
    assert checks == [step for step in CHECKS[steps] if step < steps]


def linear(classes, seed=2):
    weights = torch.randn(classes, 48, generator=torch.Generator().manual_seed(seed)).double()
    return weights, lambda inputs: inputs.flatten(1) @ weights.T


def test_one_step_reaches_the_best_corner_of_a_linear_model():
    weights, predict = linear(2)
    images = (
        0.4 + 0.2 * torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    )
    labels = predict(images).argmax(1)
    result = auto.apgd(images, labels, False, predict, noise(range(20)), epsilon=0.1, steps=1)
    lead = (weights[1 - labels] - weights[labels]).view_as(images)
    assert torch.equal(result, 0.1 * lead.sign())
    fall = margin(predict(images), labels, False) - margin(predict(images + result), labels, False)
    assert torch.allclose(fall, 0.1 * lead.abs().sum((1, 2, 3)), atol=1e-12)


@pytest.mark.parametrize(("steps", "share"), [(1, 0.866), (2, 0.99), (5, 0.9992), (10, 0.99999)])
def test_l2_steps_approach_the_best_point_of_a_linear_model(steps, share):
    weights, predict = linear(2)
    images = (
        0.4 + 0.2 * torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    )
    labels = predict(images).argmax(1)
    settings = {"epsilon": 0.3, "norm": "l2", "returns": "best", "steps": steps}
    result = auto.apgd(images, labels, False, predict, noise(range(40)), **settings)
    assert (result.flatten(1).norm(dim=1) <= 0.3 + 1e-12).all()
    fall = margin(predict(images), labels, False) - margin(predict(images + result), labels, False)
    best = 0.3 * (weights[1 - labels] - weights[labels]).norm(dim=1)
    assert (fall >= share * best - 1e-9).all() and (fall <= best + 1e-9).all()
    if steps == 1:  # from a point on the sphere at a cosine of c with the gradient
        direction = (weights[1 - labels] - weights[labels]) / best[:, None] * 0.3
        point = noise(range(40)).normal(images).double().flatten(1)
        cosine = (point * direction).sum(1) / point.norm(dim=1)
        assert torch.allclose(fall / best, (2 + cosine) / (5 + 4 * cosine).sqrt(), atol=1e-6)


# ---------------------------------------------------------------- losses


def test_dlr_does_not_depend_on_shift_and_scale():
    outputs = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(30) % 6
    expected = auto._dlr(outputs, labels)
    assert torch.allclose(auto._dlr(7 * outputs + 3, labels), expected)
    for row, label, value in zip(outputs, labels, expected, strict=True):
        ranked = row.sort(descending=True).values
        other = max(v for k, v in enumerate(row) if k != label)
        assert value == pytest.approx((-(row[label] - other) / (ranked[0] - ranked[2])).item())
    right = outputs.argmax(1) == labels
    assert ((expected[right] >= -1) & (expected[right] <= 0)).all() and right.any()
    goals = (labels + 2) % 6
    targeted = auto._lead_of_target(outputs, labels, goals, "dlr")
    assert torch.allclose(auto._lead_of_target(7 * outputs + 3, labels, goals, "dlr"), targeted)
    for row, label, goal, value in zip(outputs, labels, goals, targeted, strict=True):
        ranked = row.sort(descending=True).values
        size = ranked[0] - (ranked[2] + ranked[3]) / 2
        assert value == pytest.approx((-(row[label] - row[goal]) / size).item())


def test_dlr_sees_through_scaled_logits(images, network, labels):
    settings = {"epsilon": EPSILON, "steps": 10}

    def scaled(inputs):
        return 1024 * network(inputs)

    for loss, equal in (("dlr", True), ("ce", False)):
        results = [
            auto.apgd(images, labels, False, predict, noise(), loss=loss, **settings)
            for predict in (network, scaled)
        ]
        assert torch.equal(*results) == equal


def test_few_classes():
    images = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    settings = {"epsilon": 0.1, "steps": 5}
    for classes in (2, 3):
        _, predict = linear(classes)
        labels = predict(images).argmax(1)
        if classes == 2:
            with pytest.raises(BadInput, match="dlr needs at least 3 classes.*loss: margin"):
                auto.apgd(images, labels, False, predict, noise(range(10)), loss="dlr", **settings)
        else:
            auto.apgd(images, labels, False, predict, noise(range(10)), loss="dlr", **settings)
        auto.apgd(images, labels, False, predict, noise(range(10)), loss="margin", **settings)
        results = [
            auto.apgd_t(images, labels, predict, noise(range(10)), targets=t, loss=loss, **settings)
            for t, loss in ((9, "dlr"), (classes - 1, "margin"))
        ]
        assert torch.equal(*results) and results[0].any()


def test_targets_are_reached(network, images, labels):
    targets = (network(images).argmax(1) + 1) % 10
    for loss in ("ce", "dlr", "margin"):
        settings = {"epsilon": 0.04, "steps": 20, "loss": loss}
        result = auto.apgd(images, targets, True, network, noise(), **settings)
        assert (network(images + result).argmax(1) == targets).float().mean() > 0.3
        before = margin(network(images), targets, True).mean()
        assert margin(network(images + result), targets, True).mean() < before


# ---------------------------------------------------------------- what is returned


def test_images_that_are_misclassified_are_not_attacked(network, images, labels):
    predict = Recorded(network)
    result = auto.apgd(images, labels, False, predict, noise(), epsilon=EPSILON, steps=4)
    assert not result[:3].any() and result[3:].flatten(1).any(1).all()
    assert [len(inputs) for inputs in predict.inputs] == [COUNT, *[COUNT - 3] * 5]


def test_restarts_are_for_images_that_are_not_fooled(network, images, labels):
    predict = Recorded(network)
    settings = {"epsilon": 0.01, "steps": 4, "loss": "dlr"}
    one = auto.apgd(images, labels, False, network, noise(), **settings)
    three = auto.apgd(images, labels, False, predict, noise(), restarts=3, **settings)
    fooled = network(images + one).argmax(1) != labels
    assert torch.equal(one[fooled], three[fooled]) and 3 < fooled.sum() < COUNT
    sizes = [len(inputs) for inputs in predict.inputs]
    assert sizes[6] == COUNT - fooled.sum()
    assert (network(images + three).argmax(1) != labels)[fooled].all()
    still = ~fooled & (network(images + three).argmax(1) == labels)
    leads = [auto._dlr(network(images + p), labels) for p in (one, three)]
    assert (leads[1][still] >= leads[0][still]).all()


def test_what_is_not_fooled_can_stay_clean(network, images, labels):
    settings = {"epsilon": 0.01, "steps": 6}
    for attack in (
        lambda **more: auto.apgd(images, labels, False, network, noise(), **settings, **more),
        lambda **more: auto.apgd_t(images, labels, network, noise(), **settings, **more),
    ):
        plain, clean = attack(), attack(unfooled="clean")
        fooled = network(images + plain).argmax(1) != labels
        assert torch.equal(clean[fooled], plain[fooled]) and not clean[~fooled].any()
        assert plain[~fooled].any()


def test_dropping_fooled_images_leaves_accuracies(network, images, labels):
    predict = Recorded(network)
    settings = {"epsilon": EPSILON, "steps": 20}
    whole = auto.apgd(images, labels, False, network, noise(), **settings)
    dropped = auto.apgd(images, labels, False, predict, noise(), drop=True, **settings)
    fooled = network(images + whole).argmax(1) != labels
    assert torch.equal(network(images + dropped).argmax(1) != labels, fooled)
    assert torch.equal(whole[~fooled], dropped[~fooled]) and 3 < fooled.sum() < COUNT
    sizes = [len(inputs) for inputs in predict.inputs]
    assert sorted(sizes, reverse=True) == sizes and sizes[-1] < COUNT - 3
    leads = [auto._lead(network(images + p), labels)[fooled].mean() for p in (whole, dropped)]
    assert leads[0] > leads[1]


def test_the_best_loss_never_falls_with_more_steps_of_one_run(network, images, labels):
    """The trace of one run: the best of its first inputs, in order."""
    predict = Recorded(network)
    result = auto.apgd(
        images, labels, False, predict, noise(), epsilon=EPSILON, steps=20, returns="best"
    )
    visited = [x for x in predict.inputs if len(x) == COUNT - 3]
    losses = torch.stack(
        [nn.functional.cross_entropy(network(x), labels[3:], reduction="none") for x in visited]
    )
    best = losses.max(0)
    assert len(visited) == 21
    expected = torch.stack([visited[step][row] for row, step in enumerate(best.indices)])
    assert torch.allclose(images[3:] + result[3:], expected, atol=1e-6)


def test_first_matters_for_losses_below_zero(network, images, labels):
    settings = {"epsilon": 0.01, "steps": 20, "returns": "last"}
    for loss, equal in (("ce", True), ("dlr", False)):
        results = [
            auto.apgd(images, labels, False, network, noise(), loss=loss, first=first, **settings)
            for first in ("zero", "start")
        ]
        assert torch.equal(*results) == equal


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_inside_the_ball_and_independent_of_the_batch(network, images, labels, norm):
    epsilon = torch.linspace(0.01, 0.2, COUNT).view(-1, 1, 1, 1)
    model, x = copy.deepcopy(network).double(), images.double()
    order = torch.tensor([7, 39, 0, 12])
    for attack in (
        lambda rows, **more: auto.apgd(
            x[rows],
            labels[rows],
            False,
            model,
            noise(rows),
            epsilon=epsilon[rows].double(),
            **more,
        ),
        lambda rows, **more: auto.apgd_t(
            x[rows], labels[rows], model, noise(rows), epsilon=epsilon[rows].double(), **more
        ),
    ):
        more = {"steps": 6, "norm": norm, "restarts": 2}
        together = attack(torch.arange(COUNT), **more)
        size = together.abs().amax((1, 2, 3)) if norm == "linf" else together.flatten(1).norm(dim=1)
        assert (size <= epsilon.flatten().double() + 1e-12).all()
        assert (x + together).min() >= 0 and (x + together).max() <= 1
        assert torch.allclose(attack(order, **more), together[order], atol=1e-9)


def test_gradients_that_are_not_finite_move_nothing(network, images, labels):
    def predict(inputs):
        bright = inputs[:, :1, :1, :1] > 0.5
        return network(inputs) + (inputs - inputs.detach()).sum((1, 2, 3))[:, None] * torch.where(
            bright, torch.inf, 0.0
        ).flatten(1)

    result = auto.apgd(images, labels, False, predict, noise(), epsilon=0.05, steps=5)
    assert result.isfinite().all()
    assert (images + result).min() >= 0 and (images + result).max() <= 1


# ---------------------------------------------------------------- random networks


def test_draws_are_averaged_and_others_choose(network, images, labels):
    def purify(inputs, draw):
        return (inputs + 0.02 * draw.normal(inputs)).clamp(0, 1)

    def purified(stream, draws):
        noises = [Noise(0, range(COUNT), "p", stream, draw=draw) for draw in range(draws)]
        return purified_classifier(purify, network, "full", None, *noises)

    def right(perturbation):
        draws = purified("defender", 30).per_draw
        outputs = [predict(images + perturbation).argmax(1) == labels for predict in draws]
        return torch.stack(outputs).float().mean(0)

    settings = {"epsilon": EPSILON, "steps": 10, "restarts": 2}
    facts = Facts(COUNT)
    result = auto.apgd(
        images, labels, False, purified("a", 6), noise(), facts, purified("s", 10), **settings
    )
    again = auto.apgd(
        images, labels, False, purified("a", 6), noise(), None, purified("s", 10), **settings
    )
    assert torch.equal(result, again)
    assert right(result).mean() < right(torch.zeros_like(images)).mean() - 0.2
    values = facts.arrays()
    attacked = ~torch.tensor(values["fooled_last"]) | torch.tensor(values["fooled_at"] != 0)
    assert (values["loss_best"] >= values["loss_start"]).all() and attacked.any()
    order = torch.tensor([5, 30, 2])
    rows = [purified(stream, draws).take(order) for stream, draws in (("a", 6), ("s", 10))]
    some = auto.apgd(
        images[order], labels[order], False, rows[0], noise(order), None, rows[1], **settings
    )
    assert torch.allclose(some, result[order], atol=1e-6)
    assert not math.isnan(result.sum())
