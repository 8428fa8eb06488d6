"""Defense-GAN against a slow reference, image by image and code by code."""

import pytest
import torch

from advdenoise.denoisers.gan import wgan
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.purifiers.gan import defense_gan

GREY = (1, 28, 28)


@pytest.fixture(scope="module", params=["normal", "scaled"])
def generate(request):
    """Both priors: a reconstruction always starts from N(0, 1 / latent)."""
    torch.manual_seed(0)
    network = (
        wgan(GREY, latent=4, width=2, prior=request.param).double().eval().requires_grad_(False)
    )
    for weight in network.parameters():
        weight.mul_(3)  # with the initial weights, all images are nearly the same
    return network


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, *GREY, generator=torch.Generator().manual_seed(1)).double()


def noise(ids) -> Noise:
    return Noise(0, ids, "defender")


def by_the_formula(generate, image, noise_of_row: Noise, steps, restarts, rate, momentum):
    """The nearest image of one image, one code at a time."""
    candidates = []
    for code in noise_of_row.normal(torch.empty(1, restarts, 4, 1, 1), 0.5)[0].double():
        code, velocity = code[None], torch.zeros(1, 4, 1, 1, dtype=torch.float64)
        for number in range(steps):
            code.requires_grad_()
            error = ((generate(code)[0] - image) ** 2).mean()
            (gradient,) = torch.autograd.grad(error, code)
            velocity = momentum * velocity + gradient
            code = (code - (rate if number < 0.8 * steps else 0.1 * rate) * velocity).detach()
        output = generate(code)[0]
        candidates.append((((output - image) ** 2).mean().item(), output))
    return min(candidates, key=lambda pair: pair[0])[1]


def test_equals_the_slow_reference(generate):
    settings = {"steps": 10, "restarts": 3, "rate": 8.0, "momentum": 0.6}
    clean = images()
    result = defense_gan(clean, generate, noise(range(3)), **settings)
    for i, image in enumerate(clean):
        expected = by_the_formula(generate, image, noise([i]), **settings)
        assert torch.allclose(result[i], expected, atol=1e-10)


def test_the_settings_are_the_authors(generate):
    clean = images(2)
    by_default = defense_gan(clean, generate, noise(range(2)))
    settings = {"steps": 200, "restarts": 10, "rate": 10.0, "momentum": 0.7}
    assert torch.equal(by_default, defense_gan(clean, generate, noise(range(2)), **settings))


def test_neither_batch_nor_order_matters(generate):
    clean = images(4)
    settings = {"steps": 5, "restarts": 3}
    together = defense_gan(clean, generate, noise(range(4)), **settings)
    order = [2, 0, 3, 1]
    again = defense_gan(clean[order], generate, noise(order), **settings)
    assert torch.allclose(again, together[order], atol=1e-12)
    alone = defense_gan(clean[2:3], generate, noise([2]), **settings)
    assert torch.allclose(alone, together[2:3], atol=1e-12)
    assert not torch.equal(defense_gan(clean, generate, noise(range(4, 8)), **settings), together)


def test_more_restarts_are_closer_and_generated_images_are_reconstructed(generate):
    clean = images(6)

    def error(outputs):
        return (outputs - clean).square().flatten(1).mean(1)

    few, many = (
        error(defense_gan(clean, generate, noise(range(6)), steps=8, restarts=count))
        for count in (1, 6)
    )
    assert many.mean() < few.mean()
    codes = 0.5 * torch.randn(3, 4, 1, 1, generator=torch.Generator().manual_seed(5)).double()
    generated = generate(codes)
    result = defense_gan(generated, generate, noise(range(3)), steps=300, restarts=4, rate=10.0)
    assert (result - generated).square().mean() < 0.05 * generated.var(0).mean()


def test_the_gradient_is_that_of_finite_differences(generate):
    """The whole gradient passes through the descent."""
    clean = images(2)
    settings = {"steps": 6, "restarts": 2, "rate": 20.0}
    weights = torch.rand(2, *GREY, generator=torch.Generator().manual_seed(2)).double()

    def value(x):
        return (defense_gan(x, generate, noise(range(2)), **settings) * weights).sum()

    direction = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3)).double()
    small = 1e-5
    inside = clean.clamp(0.01, 0.99)
    leaf = inside.clone().requires_grad_()
    (result,) = torch.autograd.grad(value(leaf), leaf)
    with torch.no_grad():
        high, low = (value(inside + sign * small * direction) for sign in (1, -1))
        expected = (high - low) / 2 / small
    assert (result * direction).sum().item() == pytest.approx(expected.item(), rel=1e-4)
    assert abs(expected) > 1e-6


def test_refuses_other_networks_and_invalid_images(generate):
    noise_of_row = noise(range(2))
    with pytest.raises(BadInput, match="must be a generator"):
        defense_gan(images(2), None, noise_of_row)
    with pytest.raises(BadInput, match="returns images of 1x28x28, but the images have 1x32x32"):
        defense_gan(torch.rand(2, 1, 32, 32).double(), generate, noise_of_row)
    with pytest.raises(BadInput, match="the batch is empty"):
        defense_gan(images(0), generate, noise([]))
    with pytest.raises(BadInput, match="not finite"):
        defense_gan(images(2) * torch.nan, generate, noise_of_row)
    with pytest.raises(BadInput, match="got 1 to"):
        defense_gan(images(2) + 1, generate, noise_of_row)
