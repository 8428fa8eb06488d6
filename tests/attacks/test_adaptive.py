"""Counter attacks A and B against their equations, written out image by image."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import adaptive, gradient
from advdenoise.errors import BadInput
from advdenoise.inference.purified import purified_classifier
from advdenoise.stages import models

EPSILON, ALPHA, STEPS = 0.1, 0.03, 6


@pytest.fixture(scope="module")
def networks():
    """A smooth classifier and a smooth denoiser in float64: no sign depends on rounding."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, 2, 1), nn.Softplus(), nn.Flatten(), nn.Linear(54, 4)]
    classifier = nn.Sequential(*layers).double().eval().requires_grad_(False)
    layers = [nn.Conv2d(2, 4, 3, 1, 1), nn.Softplus(), nn.Conv2d(4, 2, 3, 1, 1), nn.Sigmoid()]
    denoiser = nn.Sequential(*layers).double().eval().requires_grad_(False)
    return classifier, models.Denoiser(denoiser)


@pytest.fixture(scope="module")
def images():
    images = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, 0] = 0  # rows at both ends of the range, where clipping matters
    images[:, :, 1] = 1
    return images


LABELS = torch.arange(6) % 4


def steps(objective, image):
    """X_{i+1} = Clip(X_i + a sign(gradient of the objective at X_i)) from X_0 = X."""
    current = image
    for _ in range(STEPS):
        leaf = current.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(leaf), leaf)
        moved = current + ALPHA * gradient.sign()
        current = moved.clamp(image - EPSILON, image + EPSILON).clamp(0, 1)
    return current


SETTINGS = {"epsilon": EPSILON, "alpha": ALPHA, "steps": STEPS}


def test_bim_through_the_denoiser_is_counter_attack_a(networks, images):
    """Equation 14: the gradient of CE(f(A(X)), y), whatever the purifier does with A."""
    classifier, denoiser = networks
    predict = purified_classifier(
        None, classifier, "denoiser", lambda images, noise: denoiser.denoise(images), None
    )
    result = images + gradient.bim(images, LABELS, False, predict, **SETTINGS)
    for image, label, actual in zip(images, LABELS, result, strict=True):

        def objective(inputs, label=label):
            return functional.cross_entropy(classifier(denoiser.denoise(inputs[None])), label[None])

        assert torch.allclose(actual, steps(objective, image), rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_counter_attack_b_is_equation_15(networks, images, weight, targeted):
    classifier, denoiser = networks
    result = images + adaptive.counter_b(
        images, LABELS, targeted, classifier, denoiser.error, weight=weight, **SETTINGS
    )
    for image, label, actual in zip(images, LABELS, result, strict=True):

        def objective(inputs, label=label):
            cross_entropy = functional.cross_entropy(classifier(inputs[None]), label[None])
            error = (inputs - denoiser.denoise(inputs[None])[0]).square().sum()
            return (-cross_entropy if targeted else cross_entropy) - weight * error

        assert torch.allclose(actual, steps(objective, image), rtol=0, atol=1e-12)


def test_without_weight_or_error_it_is_bim(networks, images):
    classifier, denoiser = networks
    bim = gradient.bim(images, LABELS, False, classifier, **SETTINGS)
    zero = models.Denoiser(lambda inputs: inputs).error
    for error, weight in ((denoiser.error, 0.0), (zero, 10.0)):
        result = adaptive.counter_b(
            images, LABELS, False, classifier, error, weight=weight, **SETTINGS
        )
        assert torch.equal(result, bim)


def test_a_larger_weight_keeps_the_error_lower(networks, images):
    classifier, denoiser = networks
    errors, losses = [], []
    for weight in (0.0, 10.0):
        inputs = images + adaptive.counter_b(
            images, LABELS, False, classifier, denoiser.error, weight=weight, **SETTINGS
        )
        errors.append(denoiser.error(inputs).mean())
        losses.append(functional.cross_entropy(classifier(inputs), LABELS))
    assert errors[1] < errors[0] and losses[1] < losses[0]


def test_each_image_may_have_its_own_budget(networks, images):
    classifier, denoiser = networks
    epsilon = torch.linspace(0.02, 0.12, 6).double()

    def run(rows, epsilon):
        arguments = (images[rows], LABELS[rows], False, classifier, denoiser.error)
        step = {"steps": STEPS, "alpha_per_epsilon": 0.3}
        return adaptive.counter_b(*arguments, weight=0.1, epsilon=epsilon, **step)

    together = run(slice(None), epsilon.view(-1, 1, 1, 1))
    for row in range(6):
        assert torch.allclose(together[row], run([row], epsilon[row].item())[0], atol=1e-12)


def test_the_step_size_is_required(networks, images):
    classifier, denoiser = networks
    with pytest.raises(BadInput, match="either alpha"):
        adaptive.counter_b(
            images, LABELS, False, classifier, denoiser.error, weight=1.0, epsilon=0.1, steps=1
        )
