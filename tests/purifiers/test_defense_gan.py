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
    """Whatever it was trained with, a reconstruction starts from N(0, 1 / latent)."""
    torch.manual_seed(0)
    network = (
        wgan(GREY, latent=4, width=2, prior=request.param).double().eval().requires_grad_(False)
    )
    for weight in network.parameters():
        weight.mul_(3)  # as it comes, its images hardly differ
    return network


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, *GREY, generator=torch.Generator().manual_seed(1)).double()


def noise(ids) -> Noise:
    return Noise(0, ids, "defender")


def slow(generate, image, row: Noise, steps, restarts, rate, momentum):
    """The nearest image of one image, one code at a time."""
    found = []
    for code in row.normal(torch.empty(1, restarts, 4, 1, 1), 0.5)[0].double():
        code, velocity = code[None], torch.zeros(1, 4, 1, 1, dtype=torch.float64)
        for number in range(steps):
            code.requires_grad_()
            error = ((generate(code)[0] - image) ** 2).mean()
            (slope,) = torch.autograd.grad(error, code)
            velocity = momentum * velocity + slope
            code = (code - (rate if number < 0.8 * steps else 0.1 * rate) * velocity).detach()
        made = generate(code)[0]
        found.append((((made - image) ** 2).mean().item(), made))
    return min(found, key=lambda pair: pair[0])[1]


def test_it_is_the_slow_reference(generate):
    settings = {"steps": 10, "restarts": 3, "rate": 8.0, "momentum": 0.6}
    given = images()
    found = defense_gan(given, generate, noise(range(3)), **settings)
    for place, image in enumerate(given):
        expected = slow(generate, image, noise([place]), **settings)
        assert torch.allclose(found[place], expected, atol=1e-10)


def test_the_settings_are_the_authors(generate):
    given = images(2)
    by_default = defense_gan(given, generate, noise(range(2)))
    settings = {"steps": 200, "restarts": 10, "rate": 10.0, "momentum": 0.7}
    assert torch.equal(by_default, defense_gan(given, generate, noise(range(2)), **settings))


def test_batches_and_their_order_change_nothing(generate):
    given = images(4)
    settings = {"steps": 5, "restarts": 3}
    whole = defense_gan(given, generate, noise(range(4)), **settings)
    order = [2, 0, 3, 1]
    again = defense_gan(given[order], generate, noise(order), **settings)
    assert torch.allclose(again, whole[order], atol=1e-12)
    alone = defense_gan(given[2:3], generate, noise([2]), **settings)
    assert torch.allclose(alone, whole[2:3], atol=1e-12)
    assert not torch.equal(defense_gan(given, generate, noise(range(4, 8)), **settings), whole)


def test_more_restarts_come_nearer_and_an_image_of_the_generator_stays(generate):
    given = images(6)

    def error(found):
        return (found - given).square().flatten(1).mean(1)

    few, many = (
        error(defense_gan(given, generate, noise(range(6)), steps=8, restarts=count))
        for count in (1, 6)
    )
    assert many.mean() < few.mean()
    codes = 0.5 * torch.randn(3, 4, 1, 1, generator=torch.Generator().manual_seed(5)).double()
    own = generate(codes)
    found = defense_gan(own, generate, noise(range(3)), steps=300, restarts=4, rate=10.0)
    assert (found - own).square().mean() < 0.05 * own.var(0).mean()


def test_the_gradient_is_that_of_small_differences(generate):
    """Through the descent too: without it there would be none at all."""
    given = images(2)
    settings = {"steps": 6, "restarts": 2, "rate": 20.0}
    weights = torch.rand(2, *GREY, generator=torch.Generator().manual_seed(2)).double()

    def value(x):
        return (defense_gan(x, generate, noise(range(2)), **settings) * weights).sum()

    direction = torch.randn(given.shape, generator=torch.Generator().manual_seed(3)).double()
    small = 1e-5
    inside = given.clamp(0.01, 0.99)
    asked = inside.clone().requires_grad_()
    (found,) = torch.autograd.grad(value(asked), asked)
    with torch.no_grad():
        slope = (value(inside + small * direction) - value(inside - small * direction)) / 2 / small
    assert (found * direction).sum().item() == pytest.approx(slope.item(), rel=1e-4)
    assert abs(slope) > 1e-6


def test_what_is_no_generator_and_what_is_no_image_is_refused(generate):
    row = noise(range(2))
    with pytest.raises(BadInput, match="is no generator"):
        defense_gan(images(2), None, row)
    with pytest.raises(BadInput, match="makes images of 1x28x28, these have 1x32x32"):
        defense_gan(torch.rand(2, 1, 32, 32).double(), generate, row)
    with pytest.raises(BadInput, match="the batch is empty"):
        defense_gan(images(0), generate, noise([]))
    with pytest.raises(BadInput, match="not finite"):
        defense_gan(images(2) * torch.nan, generate, row)
    with pytest.raises(BadInput, match="from 1"):
        defense_gan(images(2) + 1, generate, row)
