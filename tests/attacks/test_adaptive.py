"""Counter attacks A and B against their equations, written out image by image."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import adaptive, gradient
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.stages import models

EPSILON, ALPHA, STEPS = 0.1, 0.03, 6


@pytest.fixture(scope="module")
def networks():
    """A smooth classifier and a smooth denoiser in float64: no sign hangs on rounding."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(54, 4)]
    classifier = nn.Sequential(*layers).double().eval().requires_grad_(False)
    layers = [nn.Conv2d(2, 4, 3, 1, 1), nn.Softplus(), nn.Conv2d(4, 2, 3, 1, 1), nn.Sigmoid()]
    denoiser = nn.Sequential(*layers).double().eval().requires_grad_(False)
    return classifier, models.Denoiser(denoiser)


@pytest.fixture(scope="module")
def images():
    drawn = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    drawn[:, :, 0] = 0  # a row at each end of the range, where the box is felt
    drawn[:, :, 1] = 1
    return drawn


LABELS = torch.arange(6) % 4


def steps(objective, image):
    """X_{i+1} = Clip(X_i + a sign(gradient of the objective at X_i)) from X_0 = X."""
    now = image
    for _ in range(STEPS):
        leaf = now.clone().requires_grad_()
        (slope,) = torch.autograd.grad(objective(leaf), leaf)
        now = (now + ALPHA * slope.sign()).clamp(image - EPSILON, image + EPSILON).clamp(0, 1)
    return now


SETTINGS = {"epsilon": EPSILON, "alpha": ALPHA, "steps": STEPS}


def test_bim_through_the_denoiser_is_counter_attack_a(networks, images):
    """Equation 14: the gradient of CE(f(A(X)), y), whatever the purifier does with A."""
    classifier, using = networks
    predict = models.behind(None, classifier, "denoiser", using, Noise(0, range(6), "test"))
    found = images + gradient.bim(images, LABELS, False, predict, **SETTINGS)
    for image, label, own in zip(images, LABELS, found, strict=True):

        def objective(seen, label=label):
            return functional.cross_entropy(classifier(using.denoise(seen[None])), label[None])

        assert torch.allclose(own, steps(objective, image), rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_counter_attack_b_is_equation_15(networks, images, weight, targeted):
    classifier, using = networks
    found = images + adaptive.counter_b(
        images, LABELS, targeted, classifier, using.error, weight=weight, **SETTINGS
    )
    for image, label, own in zip(images, LABELS, found, strict=True):

        def objective(seen, label=label):
            entropy = functional.cross_entropy(classifier(seen[None]), label[None])
            error = (seen - using.denoise(seen[None])[0]).square().sum()
            return (-entropy if targeted else entropy) - weight * error

        assert torch.allclose(own, steps(objective, image), rtol=0, atol=1e-12)


def test_without_weight_or_error_it_is_bim(networks, images):
    classifier, using = networks
    bim = gradient.bim(images, LABELS, False, classifier, **SETTINGS)
    nothing = models.Denoiser(lambda given: given).error
    for error, weight in ((using.error, 0.0), (nothing, 10.0)):
        found = adaptive.counter_b(
            images, LABELS, False, classifier, error, weight=weight, **SETTINGS
        )
        assert torch.equal(found, bim)


def test_a_larger_weight_keeps_the_error_lower(networks, images):
    classifier, using = networks
    errors, losses = [], []
    for weight in (0.0, 10.0):
        seen = images + adaptive.counter_b(
            images, LABELS, False, classifier, using.error, weight=weight, **SETTINGS
        )
        errors.append(using.error(seen).mean())
        losses.append(functional.cross_entropy(classifier(seen), LABELS))
    assert errors[1] < errors[0] and losses[1] < losses[0]


def test_budgets_belong_to_images(networks, images):
    classifier, using = networks
    epsilon = torch.linspace(0.02, 0.12, 6).double()

    def run(rows, epsilon):
        given = (images[rows], LABELS[rows], False, classifier, using.error)
        step = {"steps": STEPS, "alpha_per_epsilon": 0.3}
        return adaptive.counter_b(*given, weight=0.1, epsilon=epsilon, **step)

    whole = run(slice(None), epsilon.view(-1, 1, 1, 1))
    for row in range(6):
        assert torch.allclose(whole[row], run([row], epsilon[row].item())[0], atol=1e-12)


def test_a_step_is_said_once(networks, images):
    classifier, using = networks
    with pytest.raises(BadInput, match="either alpha"):
        adaptive.counter_b(
            images, LABELS, False, classifier, using.error, weight=1.0, epsilon=0.1, steps=1
        )
