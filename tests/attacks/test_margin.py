"""The bounded margin attack against its objective, written out image by image."""

import pytest
import torch
from torch import nn

from advdenoise.attacks import gradient
from advdenoise.errors import BadInput
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise

EPSILON, ALPHA, STEPS = 0.1, 0.03, 6
LABELS = torch.arange(8) % 5


@pytest.fixture(scope="module")
def network():
    """A smooth tiny network in float64: its gradients do not vanish."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(128, 5)]
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, 0] = 0  # rows at both ends of the range, where clipping matters
    images[:, :, 1] = 1
    return images


def margin_of(logits, label, targeted):
    """The largest other logit minus the label's."""
    other = max(logit for index, logit in enumerate(logits) if index != label)
    return logits[label] - other if targeted else other - logits[label]


def attack(network, images, labels=LABELS, targeted=False, ids=range(8), **changes):
    settings = {"epsilon": EPSILON, "alpha": ALPHA, "steps": STEPS} | changes
    noise = Noise(0, ids, "test")
    return gradient.margin_pgd(images, labels, targeted, network, noise, **settings)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("kappa", "c"), [(50.0, None), (0.05, None), (0.05, 2.0), (0.05, 1e-3)])
@pytest.mark.parametrize("random_start", [False, True])
def test_it_is_the_formula(network, images, targeted, kappa, c, random_start):
    settings = {"kappa": kappa, "c": c, "random_start": random_start}
    result = images + attack(network, images, targeted=targeted, **settings)
    starts = Noise(0, range(8), "test").uniform(images, -EPSILON, EPSILON)
    reached_kappa = False
    for image, label, start, actual in zip(images, LABELS, starts, result, strict=True):

        def project(x, image=image):
            return x.clamp(image - EPSILON, image + EPSILON).clamp(0, 1)

        current = project(image + start) if random_start else image
        for _ in range(STEPS):
            leaf = current.clone().requires_grad_()
            value = margin_of(network(leaf[None])[0], label, targeted).clamp(max=kappa)
            reached_kappa |= bool(value == kappa)
            if c is not None:
                value = c * value - (leaf - image).square().mean()
            (gradient,) = torch.autograd.grad(value, leaf)
            current = project(current + ALPHA * gradient.sign())
        assert torch.allclose(actual, current, rtol=0, atol=1e-9)
    assert reached_kappa == (kappa < 1)


def test_an_image_beyond_kappa_does_not_move_and_with_c_moves_back(network, images):
    wrong = network(images).argmin(1)
    ahead = [margin_of(x, y, False).item() for x, y in zip(network(images), wrong, strict=True)]
    kappa = min(ahead) / 2
    assert kappa > 0
    unmoved = attack(network, images, wrong, kappa=kappa, random_start=False)
    assert not unmoved.any()
    with_c = attack(network, images, wrong, kappa=kappa, c=2.0, steps=1, random_start=True)
    start = attack(network, images, wrong, kappa=kappa, steps=1, random_start=True)
    assert (with_c.abs() <= start.abs().clamp(min=ALPHA)).all() and not with_c.equal(start)


def test_the_gradient_is_the_mean_over_draws_of_the_purifier(network, images):
    """Draws with opposite signs cancel out, except for what they do not share."""

    def purify(inputs, noise):
        signs = noise.uniform(inputs[:, :1, :1, :1], -1, 1).sign()
        return inputs + 0.2 * signs * inputs.square()

    noises = [Noise(0, range(8), "p", draw=draw) for draw in range(4)]
    purified = purified_classifier(purify, network, "full", None, *noises)
    result = attack(purified, images, steps=1, random_start=False)
    total = torch.zeros_like(images)
    for noise in [Noise(0, range(8), "p", draw=draw) for draw in range(4)]:
        leaf = images.clone().requires_grad_()
        logits = network(purify(leaf, noise))
        value = sum(margin_of(x, y, False) for x, y in zip(logits, LABELS, strict=True))
        total += torch.autograd.grad(value, leaf)[0]
    expected = (images + ALPHA * total.sign()).clamp(0, 1) - images
    assert torch.allclose(result, expected, atol=1e-12)


def test_it_increases_the_margin(network, images):
    def margins(inputs, labels, targeted):
        outputs = network(inputs)
        pairs = zip(outputs, labels, strict=True)
        return torch.stack([margin_of(*pair, targeted) for pair in pairs])

    for targeted in (False, True):
        moved = images + attack(network, images, targeted=targeted, steps=20)
        assert (margins(moved, LABELS, targeted) > margins(images, LABELS, targeted)).all()


def test_each_image_may_have_its_own_budget_and_masks_are_refused(network, images):
    epsilon = torch.linspace(0.02, 0.12, 8).double().view(8, 1, 1, 1)
    step = {"alpha": None, "alpha_per_epsilon": 0.3}
    together = attack(network, images, epsilon=epsilon, **step)
    for row in range(8):
        own_epsilon = epsilon[row].item()
        rows = slice(row, row + 1)
        alone = attack(network, images[rows], LABELS[rows], ids=[row], epsilon=own_epsilon, **step)
        assert torch.allclose(together[rows], alone, atol=1e-12)
    with pytest.raises(BadInput, match="gradient.margin_pgd needs one label per image"):
        attack(network, images, torch.zeros(8, 8, 8, dtype=torch.int64))
