"""The attacks with a stop rule against the papers' descriptions, image by image, and foolbox."""

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
from advdenoise.inference.purified import PurifiedClassifier
from advdenoise.noise import Noise

# Small steps, so that the attack succeeds early on some images, late on others, and never on some.
CASES = {
    "line_search": {"steps": 60, "increment": 0.002},
    "i_fgsm": {"steps": 9, "alpha": 0.008},
    "mi_fgsm": {"steps": 9, "alpha": 0.008},
}
every_attack = pytest.mark.parametrize("name", CASES)
IMAGES = 40


def convnet(seed: int) -> nn.Module:
    """A smooth tiny network in float64: no sign depends on rounding."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(128, 5)]
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def surrogate():
    return convnet(0)


@pytest.fixture(scope="module")
def victim(surrogate):
    """A mixture of the surrogate and another network, misled by other steps."""
    other = convnet(1)
    return lambda inputs: surrogate(inputs) + 0.3 * other(inputs)


@pytest.fixture(scope="module")
def images():
    images = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, 0] = 0  # rows at both ends of the range, where clipping matters
    images[:, :, 1] = 1
    return images


@pytest.fixture(scope="module")
def labels(images, victim):
    """The victim's predictions, except for every fifth image, which it misclassifies."""
    predictions = victim(images).argmax(1)
    return (predictions + (torch.arange(IMAGES) % 5 == 0)) % 5


def run(name, predict, victim, images, labels, targeted=False, callback=None, **changes):
    return call_with(
        functools.partial(getattr(stopped, name), **CASES[name] | changes),
        images=images,
        labels=labels,
        targeted=targeted,
        predict=predict,
        victim=victim,
        callback=callback or (lambda perturbation: None),
    )


def gradient_of(network, image, label):
    leaf = image.clone().requires_grad_()
    loss = functional.cross_entropy(network(leaf[None]), label[None])
    return torch.autograd.grad(loss, leaf)[0]


def line_search(network, succeeds, image, label, sign, steps, increment):
    """foolbox 1's sign attack: magnitudes up to the limit, then possibly 20 finer ones."""
    direction = sign * gradient_of(network, image, label).sign()
    lengths = [increment * k for k in range(1, steps + 1)]
    for _ in range(2):
        for index, length in enumerate(lengths):
            adversarial = (image + length * direction).clamp(0, 1)
            if succeeds(adversarial):
                if index < 20:
                    break
                return adversarial
        else:
            return adversarial
        lengths = [lengths[index] * k / 20 for k in range(1, 21)]
    return adversarial


def iterate(network, succeeds, image, label, sign, steps, alpha, mu):
    adversarial, momentum = image, torch.zeros_like(image)
    for _ in range(steps):
        gradient = gradient_of(network, adversarial, label)
        momentum = mu * momentum + gradient / (gradient.abs().sum() + 1e-12)
        direction = momentum if mu else gradient
        adversarial = (adversarial + sign * alpha * direction.sign()).clamp(0, 1)
        if succeeds(adversarial):
            break
    return adversarial


def by_the_description(name, network, victim, image, label, targeted):
    """The adversarial image of one image by the description."""

    def succeeds(adversarial):
        return (victim(adversarial[None]).argmax(1) == label).item() == targeted

    if succeeds(image):
        return image
    sign, values = -1 if targeted else 1, CASES[name]
    if name == "line_search":
        return line_search(network, succeeds, image, label, sign, **values)
    return iterate(network, succeeds, image, label, sign, **values, mu=1.0 * (name == "mi_fgsm"))


@every_attack
@pytest.mark.parametrize("targeted", [False, True])
def test_equals_the_description_image_by_image(name, targeted, surrogate, victim, images, labels):
    if targeted:  # every third image is already classified as the target
        labels = (victim(images).argmax(1) + torch.arange(IMAGES) % 3) % 5
    result = images + run(name, surrogate, victim, images, labels, targeted)
    expected = torch.stack(
        [
            by_the_description(name, surrogate, victim, image, label, targeted)
            for image, label in zip(images, labels, strict=True)
        ]
    )
    assert torch.allclose(result, expected, rtol=0, atol=1e-9)
    # All cases occur: success after steps, failure, success from the start.
    success = (victim(result).argmax(1) == labels) == targeted
    changed = (result != images).flatten(1).any(1)
    assert (success & changed).sum() > 3 and (~success).sum() > 3 and (~changed).sum() > 3


@every_attack
def test_images_that_the_victim_misclassifies_are_unchanged(
    name, surrogate, victim, images, labels
):
    wrong = victim(images).argmax(1) != labels
    right_with_surrogate = surrogate(images).argmax(1) == labels
    assert wrong.any() and not right_with_surrogate.all()
    perturbation = run(name, surrogate, victim, images, labels)
    assert not perturbation[wrong].any()
    assert perturbation[~wrong].flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["i_fgsm", "mi_fgsm"])
def test_success_comes_with_the_last_step(name, surrogate, victim, images, labels):
    """The attack had not succeeded one step before."""
    steps = CASES[name]["steps"]
    paths = [run(name, surrogate, victim, images, labels, steps=k) for k in range(steps + 1)]
    succeeds = torch.stack([victim(images + path).argmax(1) != labels for path in paths])
    assert not paths[0].any()
    for k in range(1, steps + 1):
        finished = succeeds[k - 1]
        assert torch.equal(paths[k][finished], paths[k - 1][finished])
        assert (paths[k][~finished] != paths[k - 1][~finished]).flatten(1).any(1).all()


def test_the_line_search_is_finer_where_it_ends_early(surrogate, victim, images, labels):
    fine = run("line_search", surrogate, victim, images, labels, steps=60, increment=0.01)
    succeeds = (victim(images + fine).argmax(1) != labels) & fine.flatten(1).any(1)
    length = fine.abs().amax((1, 2, 3))[succeeds]
    assert (length < 0.2).any() and not torch.allclose(length, (length / 0.01).round() * 0.01)
    # Late lengths are multiples of the increment: there was no finer search.
    late = run("line_search", surrogate, victim, images, labels, steps=500, increment=0.0005)
    length = late.abs().amax((1, 2, 3))
    length = length[length > 20 * 0.0005]
    assert len(length) and torch.allclose(length, (length / 0.0005).round() * 0.0005, atol=1e-12)


def test_without_success_results_equal_foolbox(surrogate, images):
    """All steps are taken. MI-FGSM is left out: foolbox uses another momentum rule."""
    labels = surrogate(images).argmax(1)

    def constant(inputs):
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
        result = images + run(name, surrogate, constant, images, labels)
        assert torch.allclose(result, expected, rtol=0, atol=1e-9), name


@every_attack
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 9))
def test_no_image_influences_another(name, seed, size, surrogate, victim, images, labels):
    rows = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(seed))[:size]
    together = run(name, surrogate, victim, images, labels)[rows]
    alone = run(name, surrogate, victim, images[rows], labels[rows])
    assert torch.allclose(alone, together, rtol=0, atol=1e-12)


@every_attack
def test_the_callback_gets_after_k_steps_the_result_of_a_limit_of_k(
    name, surrogate, victim, images, labels
):
    perturbations = []
    limit = CASES[name]["steps"]
    last = run(
        name,
        surrogate,
        victim,
        images,
        labels,
        callback=lambda inputs: perturbations.append(inputs.clone()),
    )
    assert len(perturbations) == limit + 1 and torch.equal(perturbations[-1], last)
    for k in range(0, limit, 4):
        ended = run(name, surrogate, victim, images, labels, steps=k)
        assert torch.allclose(perturbations[k], ended, rtol=0, atol=1e-12)


@every_attack
def test_finished_images_are_left_out_of_the_batch(name, surrogate, victim, images, labels):
    batch_sizes = []

    def counting(inputs):
        batch_sizes.append(len(inputs))
        return victim(inputs)

    run(name, surrogate, counting, images, labels)
    assert batch_sizes[0] == IMAGES and batch_sizes[1] < IMAGES and batch_sizes[-1] < batch_sizes[1]
    batch_sizes.clear()
    wrong = (victim(images).argmax(1) + 1) % 5
    assert not run(name, surrogate, counting, images, wrong).any()
    assert batch_sizes == [IMAGES]


@every_attack
def test_each_image_keeps_its_random_stream_behind_a_purifier(name, surrogate, images, labels):
    """Behind a purifier that draws random numbers, rows keep their own streams."""

    def behind(use, rows):
        noises = [Noise(0, rows, "purifier", use, draw=draw) for draw in range(2)]
        return PurifiedClassifier(lambda x, noise: surrogate(x + 0.05 * noise.normal(x)), noises)

    rows = torch.arange(IMAGES)
    together = run(name, behind("a", rows), behind("v", rows), images, labels)
    rows = torch.tensor([31, 4, 17])
    alone = run(name, behind("a", rows), behind("v", rows), images[rows], labels[rows])
    assert torch.allclose(alone, together[rows], rtol=0, atol=1e-7) and alone.any()


@every_attack
def test_an_image_whose_gradient_is_not_finite_does_not_move(name, images, labels):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(context, inputs):
            return inputs.flatten(1)[:, :5] * 1.0

        @staticmethod
        def backward(context, grad):
            gradient = torch.ones(len(grad), 3, 8, 8, dtype=grad.dtype)
            gradient[0, 0, 0, 0] = float("nan")
            return gradient

    def constant(inputs):
        return functional.one_hot(labels[: len(inputs)], 5).double()

    result = run(name, Broken.apply, constant, images[:3], labels[:3])
    assert not result[0].any() and result[1].any() and result.isfinite().all()


@every_attack
def test_passes_are_in_full_float32(name, surrogate, victim, images, labels, with_tf32):
    precisions = []

    def recorded(network):
        return lambda inputs: precisions.extend(with_tf32()) or network(inputs)

    run(name, recorded(surrogate), recorded(victim), images, labels)
    assert precisions and not any(precisions) and all(with_tf32())
