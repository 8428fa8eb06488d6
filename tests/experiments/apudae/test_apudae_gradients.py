"""Adaptive attacks on gradient descent: the gradient through all steps of a purification."""

import pytest
import torch
from torch import nn

from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise
from advdenoise.stages import models
from tests.differences import differences, gradient_of

N = 3
LABELS = torch.arange(N)


@pytest.fixture(params=["a", "b", "e"])
def networks(request):
    """A classifier, a purifier with a tiny smooth denoiser, and the classifier behind it."""
    torch.manual_seed(2)
    layers = [nn.Conv2d(1, 4, 3, 1, 1), nn.Softplus(), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid()]
    network = nn.Sequential(*layers).double().eval().requires_grad_(False)
    layers = [nn.Flatten(), nn.Linear(25, 6), nn.Tanh(), nn.Linear(6, 5)]
    classifier = nn.Sequential(*layers).double().eval().requires_grad_(False)
    # All errors are above the mean, so that E moves every image.
    denoiser = models.Denoiser(network, {"mean": 0.1, "deviation": 0.5})
    point = {"function": f"apudae.{request.param}", "settings": {"steps": 3, "rate": 0.03}}
    purify = models.purifier(point, denoiser)

    def purified(through: str):
        noise = Noise(0, range(N), "x")
        return purified_classifier(purify, classifier, through, denoiser.denoise, noise)

    return classifier, purify, purified


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(N, 1, 5, 5, generator=generator, dtype=torch.float64) / 2 + 0.25


def test_the_full_gradient_passes_all_steps_of_a_purification(networks, images):
    _, _, purified = networks
    gradient = gradient_of(purified("full"), images, LABELS)
    expected = differences(purified("full"), images, LABELS)
    assert gradient.abs().flatten(1).amax(1).min() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)
    of_identity = gradient_of(purified("identity"), images, LABELS)
    assert not torch.allclose(gradient, of_identity, rtol=0.05)


def test_identity_is_the_plain_gradient_at_the_purified_image(networks, images):
    classifier, purify, purified = networks
    gradient = gradient_of(purified("identity"), images, LABELS)
    after = purify(images, Noise(0, range(N), "x"))
    assert (after - images).abs().flatten(1).amax(1).min() > 1e-3
    expected = gradient_of(classifier, after, LABELS)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
