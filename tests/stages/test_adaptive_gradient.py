"""Who knows the defence attacks through it: the true gradient of loss, classifier, autoencoder."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import gradient
from advdenoise.classifiers.convnets import lenet
from advdenoise.denoisers.autoencoders import seven_layer
from advdenoise.denoisers.unet import hgd
from advdenoise.errors import BadInput
from advdenoise.inference.fold import fold
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise
from advdenoise.stages import attack, models

SHAPE, N = (1, 16, 16), 3
STEP = 1e-5  # of the differences: no kink of ReLU or max-pool lies so near in these images


def autoencoder() -> nn.Module:
    """As trained ones are: with live units in the bottleneck, and outputs that depend on them."""
    network = seven_layer(SHAPE)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            parameter.data *= 3
    return network


def denoisers() -> dict[str, nn.Module]:
    return {"seven_layer": autoencoder(), "hgd": hgd(SHAPE, widths=[3, 4, 5])}


@pytest.fixture(params=["seven_layer", "hgd"])
def predict(request):
    """Logits of the classifier behind the denoiser, as the attack stage puts them together."""
    torch.manual_seed(1)
    bare = lenet(SHAPE, 5, channels=(3, 4), hidden=8, mean=0.2, std=0.4).double()
    classifier = fold(bare)
    denoiser = denoisers()[request.param].double().eval().requires_grad_(False)
    using = models.Denoiser(denoiser)
    purify = models.purifier({"function": "basic.direct"}, using)
    return purified_classifier(purify, classifier, "full", using.denoise, Noise(0, range(N), "x"))


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    # Away from the ends, so that neither the denoiser's clamp nor the box is met.
    return torch.rand(N, *SHAPE, generator=generator, dtype=torch.float64) / 2 + 0.25


def differences(predict, images, labels) -> torch.Tensor:
    """Central differences of each image's cross-entropy in each pixel."""
    found = torch.empty_like(images)
    with torch.no_grad():
        for place in range(images[0].numel()):
            move = torch.zeros(images[0].numel(), dtype=images.dtype)
            move[place] = STEP
            move = move.view(images[0].shape)
            ends = [
                functional.cross_entropy(predict(images + s * move), labels, reduction="none")
                for s in (1, -1)
            ]
            found.flatten(1)[:, place] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def test_the_gradient_is_that_of_finite_differences(predict, images):
    labels = torch.arange(N)
    given = images.clone().requires_grad_()
    loss = functional.cross_entropy(predict(given), labels, reduction="sum")
    (found,) = torch.autograd.grad(loss, given)
    expected = differences(predict, images, labels)
    assert found.abs().flatten(1).amax(1).min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_fgsm_and_pgd_follow_it(predict, images):
    labels = torch.arange(N)
    expected = differences(predict, images, labels)
    clear = expected.abs() > 1e-5
    found = gradient.fgsm(images, labels, False, predict, epsilon=0.01)
    assert torch.equal(found[clear].sign(), expected[clear].sign()) and clear.any()
    assert torch.allclose(found[clear].abs(), torch.full((), 0.01).to(found))
    two = gradient.bim(images, labels, False, predict, epsilon=0.01, alpha=0.005, steps=2)
    first = 0.005 * expected.sign()
    second = first + 0.005 * differences(predict, images + first, labels).sign()
    assert torch.allclose(two[clear], second[clear], atol=1e-9)


# ---------------------------------------------------------------- steps of a purification


@pytest.fixture(params=["a", "b", "e"])
def purified(request):
    """A classifier, and how it stands behind a purifier by descent with a tiny smooth denoiser."""
    torch.manual_seed(2)
    layers = [nn.Conv2d(1, 4, 3, 1, 1), nn.Softplus(), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid()]
    denoiser = nn.Sequential(*layers).double().eval().requires_grad_(False)
    layers = [nn.Flatten(), nn.Linear(25, 6), nn.Tanh(), nn.Linear(6, 5)]
    classifier = nn.Sequential(*layers).double().eval().requires_grad_(False)
    # All errors lie above the mean, so that E moves every image.
    using = models.Denoiser(denoiser, {"mean": 0.1, "deviation": 0.5})
    settings = {"steps": 3, "rate": 0.03}
    purify = models.purifier({"function": f"apudae.{request.param}", "settings": settings}, using)

    def behind(through: str):
        noise = Noise(0, range(N), "x")
        return purified_classifier(purify, classifier, through, using.denoise, noise)

    return classifier, purify, behind


@pytest.fixture
def few_pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(N, 1, 5, 5, generator=generator, dtype=torch.float64) / 2 + 0.25


def slope(predict, images) -> torch.Tensor:
    given = images.clone().requires_grad_()
    loss = functional.cross_entropy(predict(given), torch.arange(N), reduction="sum")
    return torch.autograd.grad(loss, given)[0]


def test_the_full_gradient_passes_all_steps_of_a_purification(purified, few_pixels):
    classifier, purify, behind = purified
    found = slope(behind("full"), few_pixels)
    expected = differences(behind("full"), few_pixels, torch.arange(N))
    assert found.abs().flatten(1).amax(1).min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(found, slope(behind("identity"), few_pixels), rtol=0.05)


def test_identity_is_the_plain_gradient_at_the_purified_image(purified, few_pixels):
    classifier, purify, behind = purified
    found = slope(behind("identity"), few_pixels)
    after = purify(few_pixels, Noise(0, range(N), "x"))
    assert (after - few_pixels).abs().flatten(1).amax(1).min() > 1e-3
    torch.testing.assert_close(found, slope(classifier, after), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "purify",
    [
        lambda images, noise: images.detach().round(),
        lambda images, noise: torch.from_numpy(images.numpy().round()),
    ],
    ids=["detached", "numpy"],
)
def test_a_purifier_without_a_gradient_names_the_remedy(images, purify):
    known = attack._with_gradient(purify, "attacks.pgd", "mine")
    noise = Noise(0, range(N), "x")
    assert torch.equal(known(images, noise), images.round())  # nobody asks for a gradient
    with pytest.raises(
        BadInput, match=r"^attacks\.pgd\.through: purifier 'mine' .* `through: iden"
    ):
        known(images.clone().requires_grad_(), noise)


def test_other_failures_of_a_purifier_stay_what_they_are(images):
    def purify(images, noise):
        return images @ torch.zeros(3, 3, dtype=images.dtype)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        attack._with_gradient(purify, "attacks.pgd", "mine")(images.requires_grad_(), None)
