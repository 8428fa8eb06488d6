import pytest
import torch

from advdenoise.attacks import noise as attack
from advdenoise.noise import Noise

GREY = torch.full((8, 3, 40, 40), 0.5)
CASES = {
    "uniform": (attack.uniform, {"epsilon": 0.3}),
    "gaussian": (attack.gaussian, {"sigma": 0.3}),
    "blind_gaussian": (attack.blind_gaussian, {"sigma_max": 0.3}),
    "bimodal": (attack.bimodal, {"mode": 0.2, "sigma": 0.1}),
}


def test_uniform_fills_the_ball():
    perturbation = attack.uniform(GREY, Noise(0, range(8)), epsilon=0.1)
    assert perturbation.abs().max() <= torch.tensor(0.1)
    assert perturbation.min() < -0.0999 and perturbation.max() > 0.0999
    assert abs(perturbation.std() - 0.1 / 3**0.5) < 1e-3


def test_uniform_with_an_epsilon_for_each_image():
    epsilon = torch.linspace(0, 0.2, 8).view(8, 1, 1, 1)
    perturbation = attack.uniform(GREY, Noise(0, range(8)), epsilon=epsilon)
    largest = perturbation.abs().amax((1, 2, 3), keepdim=True)
    assert (largest <= epsilon).all() and (largest >= 0.99 * epsilon).all()


def test_gaussian_moments():
    perturbation = attack.gaussian(GREY, Noise(0, range(8)), sigma=0.05)
    assert abs(perturbation.mean()) < 1e-3 and abs(perturbation.std() - 0.05) < 1e-3


def test_blind_gaussian_draws_a_deviation_for_each_image():
    grey = torch.full((400, 1, 20, 20), 0.5)
    deviations = attack.blind_gaussian(grey, Noise(0, range(400)), sigma_max=0.1).std((1, 2, 3))
    # U(0, 0.1) up to the standard error of a deviation over 400 elements
    expected = (torch.arange(400) + 0.5) / 4000
    assert (deviations.sort().values - expected).abs().max() < 0.01
    assert deviations.max() < 0.11


def test_bimodal_has_two_equal_modes():
    perturbation = attack.bimodal(GREY, Noise(0, range(8)), mode=0.2, sigma=0.02)
    upper = perturbation > 0
    assert abs(upper.float().mean() - 0.5) < 0.01
    for side, mode in ((upper, 0.2), (~upper, -0.2)):
        assert abs(perturbation[side].mean() - mode) < 1e-3
        assert abs(perturbation[side].std() - 0.02) < 1e-3


@pytest.mark.parametrize("name", CASES)
def test_inside_the_unit_interval_and_independent_of_the_batch(name):
    function, values = CASES[name]
    images = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    together = function(images, Noise(0, range(6)), **values)
    assert together.dtype == torch.float32
    assert (images + together).min() >= 0 and (images + together).max() <= 1
    alone = function(images[[4, 1]], Noise(0, [4, 1]), **values)
    assert torch.equal(alone, together[[4, 1]])
    assert not torch.equal(together, function(images, Noise(1, range(6)), **values))
