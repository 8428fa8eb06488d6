"""Adaptive attacks: the gradient of loss, classifier and autoencoder together."""

import pytest
import torch
from torch import nn

from advdenoise.attacks import gradient
from advdenoise.classifiers.convnets import lenet
from advdenoise.denoisers.autoencoders import seven_layer
from advdenoise.denoisers.unet import hgd
from advdenoise.errors import BadInput
from advdenoise.inference.fold import fold
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise
from advdenoise.stages import attack, models
from tests.differences import differences, gradient_of

SHAPE, N = (1, 16, 16), 3


def autoencoder() -> nn.Module:
    """Weights large enough for active units in the bottleneck, and outputs that depend on them."""
    network = seven_layer(SHAPE)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            parameter.data *= 3
    return network


def denoisers() -> dict[str, nn.Module]:
    return {"seven_layer": autoencoder(), "hgd": hgd(SHAPE, widths=[3, 4, 5])}


@pytest.fixture(params=["seven_layer", "hgd"])
def predict(request):
    """Logits of the classifier behind the denoiser, as the attack stage computes them."""
    torch.manual_seed(1)
    bare = lenet(SHAPE, 5, channels=(3, 4), hidden=8, mean=0.2, std=0.4).double()
    classifier = fold(bare)
    denoiser = denoisers()[request.param].double().eval().requires_grad_(False)
    direct = models.Denoiser(denoiser)
    purify = models.purifier({"function": "basic.direct"}, direct)
    return purified_classifier(purify, classifier, "full", direct.denoise, Noise(0, range(N), "x"))


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    # Away from the ends, so that neither the denoiser's clamp nor the bounds change them.
    return torch.rand(N, *SHAPE, generator=generator, dtype=torch.float64) / 2 + 0.25


def test_the_gradient_is_that_of_finite_differences(predict, images):
    labels = torch.arange(N)
    result = gradient_of(predict, images, labels)
    expected = differences(predict, images, labels)
    assert result.abs().flatten(1).amax(1).min() > 1e-3
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-9)


def test_fgsm_and_pgd_follow_it(predict, images):
    labels = torch.arange(N)
    expected = differences(predict, images, labels)
    clear = expected.abs() > 1e-5
    one = gradient.fgsm(images, labels, False, predict, epsilon=0.01)
    assert torch.equal(one[clear].sign(), expected[clear].sign()) and clear.any()
    assert torch.allclose(one[clear].abs(), torch.full((), 0.01).to(one))
    two = gradient.bim(images, labels, False, predict, epsilon=0.01, alpha=0.005, steps=2)
    first = 0.005 * expected.sign()
    second = first + 0.005 * differences(predict, images + first, labels).sign()
    assert torch.allclose(two[clear], second[clear], atol=1e-9)


@pytest.mark.parametrize(
    "purify",
    [
        lambda images, noise: images.detach().round(),
        lambda images, noise: torch.from_numpy(images.numpy().round()),
    ],
    ids=["detached", "numpy"],
)
def test_a_purifier_without_a_gradient_names_the_remedy(images, purify):
    wrapped = attack._with_gradient(purify, "attacks.pgd", "mine")
    noise = Noise(0, range(N), "x")
    assert torch.equal(wrapped(images, noise), images.round())  # without a gradient
    with pytest.raises(
        BadInput, match=r"^attacks\.pgd\.through: purifier 'mine' .* `through: iden"
    ):
        wrapped(images.clone().requires_grad_(), noise)


def test_other_failures_of_a_purifier_stay_what_they_are(images):
    def purify(images, noise):
        return images @ torch.zeros(3, 3, dtype=images.dtype)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        attack._with_gradient(purify, "attacks.pgd", "mine")(images.requires_grad_(), None)
