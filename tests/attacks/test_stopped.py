"""The attacks with a stop rule against the texts written out image by image, and foolbox."""

import functools

import foolbox
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from advdenoise.attacks import stopped
from advdenoise.calls import call_with
from advdenoise.noise import Noise
from advdenoise.stages.models import Behind

# Steps so small that some images are fooled at once, some late and some never.
CASES = {
    "line_search": {"steps": 60, "increment": 0.002},
    "i_fgsm": {"steps": 9, "alpha": 0.008},
    "mi_fgsm": {"steps": 9, "alpha": 0.008},
}
every_attack = pytest.mark.parametrize("name", CASES)
IMAGES = 40


def convnet(seed: int) -> nn.Module:
    """A smooth tiny network in float64: no sign hangs on rounding."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(128, 5)]
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def surrogate():
    return convnet(0)


@pytest.fixture(scope="module")
def victim(surrogate):
    """Between the surrogate and another network: not fooled by the same steps."""
    other = convnet(1)
    return lambda given: surrogate(given) + 0.3 * other(given)


@pytest.fixture(scope="module")
def images():
    drawn = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    drawn[:, :, 0] = 0  # a row at each end of the range, where the box is felt
    drawn[:, :, 1] = 1
    return drawn


@pytest.fixture(scope="module")
def labels(images, victim):
    """The victim's classes, but for every fifth image, which it has wrong."""
    own = victim(images).argmax(1)
    return (own + (torch.arange(IMAGES) % 5 == 0)) % 5


def run(name, predict, victim, images, labels, targeted=False, watch=None, **changes):
    return call_with(
        functools.partial(getattr(stopped, name), **CASES[name] | changes),
        images=images,
        labels=labels,
        targeted=targeted,
        predict=predict,
        victim=victim,
        watch=watch or (lambda perturbation: None),
    )


def slope(network, image, label):
    leaf = image.clone().requires_grad_()
    loss = functional.cross_entropy(network(leaf[None]), label[None])
    return torch.autograd.grad(loss, leaf)[0]


def searched(network, errs, image, label, sign, steps, increment):
    """foolbox 1's sign attack: magnitudes up to the limit, then perhaps 20 finer ones."""
    direction = sign * slope(network, image, label).sign()
    lengths = [increment * k for k in range(1, steps + 1)]
    for _ in range(2):
        for place, length in enumerate(lengths):
            moved = (image + length * direction).clamp(0, 1)
            if errs(moved):
                if place < 20:
                    break
                return moved
        else:
            return moved
        lengths = [lengths[place] * k / 20 for k in range(1, 21)]
    return moved


def iterated(network, errs, image, label, sign, steps, alpha, mu):
    moved, momentum = image, torch.zeros_like(image)
    for _ in range(steps):
        gradient = slope(network, moved, label)
        momentum = mu * momentum + gradient / (gradient.abs().sum() + 1e-12)
        direction = momentum if mu else gradient
        moved = (moved + sign * alpha * direction.sign()).clamp(0, 1)
        if errs(moved):
            break
    return moved


def by_the_text(name, network, victim, image, label, targeted):
    """The adversarial image of one image, straight from the descriptions."""

    def errs(moved):
        return (victim(moved[None]).argmax(1) == label).item() == targeted

    if errs(image):
        return image
    sign, values = -1 if targeted else 1, CASES[name]
    if name == "line_search":
        return searched(network, errs, image, label, sign, **values)
    return iterated(network, errs, image, label, sign, **values, mu=1.0 * (name == "mi_fgsm"))


@every_attack
@pytest.mark.parametrize("targeted", [False, True])
def test_equals_the_text_image_by_image(name, targeted, surrogate, victim, images, labels):
    if targeted:  # every third image has reached it already
        labels = (victim(images).argmax(1) + torch.arange(IMAGES) % 3) % 5
    found = images + run(name, surrogate, victim, images, labels, targeted)
    expected = torch.stack(
        [
            by_the_text(name, surrogate, victim, image, label, targeted)
            for image, label in zip(images, labels, strict=True)
        ]
    )
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    # All that can become of an image is among them.
    reached = (victim(found).argmax(1) == labels) == targeted
    moved = (found != images).flatten(1).any(1)
    assert (reached & moved).sum() > 3 and (~reached).sum() > 3 and (~moved).sum() > 3


@every_attack
def test_an_image_that_the_victim_has_wrong_stays_as_it_is(name, surrogate, victim, images, labels):
    wrong = victim(images).argmax(1) != labels
    right_with_surrogate = surrogate(images).argmax(1) == labels
    assert wrong.any() and not right_with_surrogate.all()
    perturbation = run(name, surrogate, victim, images, labels)
    assert not perturbation[wrong].any()
    assert perturbation[~wrong].flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["i_fgsm", "mi_fgsm"])
def test_a_flip_needs_its_last_step(name, surrogate, victim, images, labels):
    """What is fooled was not so one step before."""
    steps = CASES[name]["steps"]
    paths = [run(name, surrogate, victim, images, labels, steps=k) for k in range(steps + 1)]
    errs = torch.stack([victim(images + path).argmax(1) != labels for path in paths])
    assert not paths[0].any()
    for k in range(1, steps + 1):
        already = errs[k - 1]
        assert torch.equal(paths[k][already], paths[k - 1][already])
        assert (paths[k][~already] != paths[k - 1][~already]).flatten(1).any(1).all()


def test_the_line_search_is_finer_where_it_ends_early(surrogate, victim, images, labels):
    fine = run("line_search", surrogate, victim, images, labels, steps=60, increment=0.01)
    errs = (victim(images + fine).argmax(1) != labels) & fine.flatten(1).any(1)
    length = fine.abs().amax((1, 2, 3))[errs]
    assert (length < 0.2).any() and not torch.allclose(length, (length / 0.01).round() * 0.01)
    # Late: the lengths are multiples of the increment, as they are without a finer search.
    late = run("line_search", surrogate, victim, images, labels, steps=500, increment=0.0005)
    length = late.abs().amax((1, 2, 3))
    length = length[length > 20 * 0.0005]
    assert len(length) and torch.allclose(length, (length / 0.0005).round() * 0.0005, atol=1e-12)


def test_unfooled_images_end_as_in_foolbox(surrogate, images):
    """Without a stop all steps are taken. foolbox's momentum follows another rule than ours."""
    labels = surrogate(images).argmax(1)

    def sure(given):
        return functional.one_hot(labels, 5).double()

    model = foolbox.PyTorchModel(surrogate, bounds=(0, 1))
    attacks = foolbox.attacks
    theirs = {
        "line_search": attacks.LinfFastGradientAttack(random_start=False),
        "i_fgsm": attacks.LinfBasicIterativeAttack(steps=9, abs_stepsize=0.008, random_start=False),
    }
    for name, attack in theirs.items():
        total = 0.12 if name == "line_search" else 1.0
        _, expected, _ = attack(model, images, labels, epsilons=total)
        found = images + run(name, surrogate, sure, images, labels)
        assert torch.allclose(found, expected, rtol=0, atol=1e-9), name


@every_attack
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 9))
def test_no_image_influences_another(name, seed, size, surrogate, victim, images, labels):
    rows = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(seed))[:size]
    whole = run(name, surrogate, victim, images, labels)[rows]
    part = run(name, surrogate, victim, images[rows], labels[rows])
    assert torch.allclose(part, whole, rtol=0, atol=1e-12)


@every_attack
def test_what_is_watched_after_k_steps_is_what_a_limit_of_k_gives(
    name, surrogate, victim, images, labels
):
    shown = []
    limit = CASES[name]["steps"]
    last = run(
        name, surrogate, victim, images, labels, watch=lambda given: shown.append(given.clone())
    )
    assert len(shown) == limit + 1 and torch.equal(shown[-1], last)
    for k in range(0, limit, 4):
        ended = run(name, surrogate, victim, images, labels, steps=k)
        assert torch.allclose(shown[k], ended, rtol=0, atol=1e-12)


@every_attack
def test_finished_images_are_left_out_of_the_batch(name, surrogate, victim, images, labels):
    asked = []

    def counting(given):
        asked.append(len(given))
        return victim(given)

    run(name, surrogate, counting, images, labels)
    assert asked[0] == IMAGES and asked[1] < IMAGES and asked[-1] < asked[1]
    asked.clear()
    wrong = (victim(images).argmax(1) + 1) % 5
    assert not run(name, surrogate, counting, images, wrong).any()
    assert asked == [IMAGES]


@every_attack
def test_each_image_keeps_its_draws_behind_a_purifier(name, surrogate, images, labels):
    """Networks behind a purifier that draws: rows are asked for with their own streams."""

    def behind(who, rows):
        noises = [Noise(0, rows, "purifier", who, draw=draw) for draw in range(2)]
        return Behind(lambda x, noise: surrogate(x + 0.05 * noise.normal(x)), noises)

    everyone = torch.arange(IMAGES)
    whole = run(name, behind("a", everyone), behind("v", everyone), images, labels)
    rows = torch.tensor([31, 4, 17])
    part = run(name, behind("a", rows), behind("v", rows), images[rows], labels[rows])
    assert torch.allclose(part, whole[rows], rtol=0, atol=1e-7) and part.any()


@every_attack
def test_a_gradient_that_is_not_finite_lets_the_image_rest(name, images, labels):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(context, given):
            return given.flatten(1)[:, :5] * 1.0

        @staticmethod
        def backward(context, grad):
            slope = torch.ones(len(grad), 3, 8, 8, dtype=grad.dtype)
            slope[0, 0, 0, 0] = float("nan")
            return slope

    def sure(given):
        return functional.one_hot(labels[: len(given)], 5).double()

    found = run(name, Broken.apply, sure, images[:3], labels[:3])
    assert not found[0].any() and found[1].any() and found.isfinite().all()


@every_attack
def test_passes_are_in_full_float32(name, surrogate, victim, images, labels, with_tf32):
    precisions = []

    def looked_at(ask):
        return lambda given: precisions.extend(with_tf32()) or ask(given)

    run(name, looked_at(surrogate), looked_at(victim), images, labels)
    assert precisions and not any(precisions) and all(with_tf32())
