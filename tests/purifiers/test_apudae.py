"""APuDAE against slow references written from its formulas, one image at a time in float64."""

import inspect
import math
import re

import pytest
import torch
from torch import nn

from advdenoise.denoisers.autoencoders import red_net
from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.yaml_files import read_files
from advdenoise.inference.elu import FastELU
from advdenoise.noise import Noise
from advdenoise.purifiers import apudae
from advdenoise.purifiers._transform import random_transform
from tests import mini

IDS = [3, 14, 15, 92, 65]
VARIANTS = {
    "a": {"steps": 4, "rate": 0.02},
    "a sign": {"steps": 4, "rate": 0.01, "sign": True},
    "b": {"steps": 5, "rate": 0.01},
    "c": {"steps": 4, "rate": 0.02},
    "c gaussian": {"steps": 4, "rate": 0.02, "form": "gaussian"},
    "c each step": {"steps": 4, "rate": 0.02, "each_step": True},
    "d": {"steps": 6, "rate": 0.01},
    "e": {"steps": 8, "rate": 0.01},
    "e rest": {"steps": 8, "rate": 0.01, "rest": True},
    "f": {"steps": 4, "rate": 0.01, "amount": 0.01},
    "f deviation": {"steps": 4, "rate": 0.01, "amount": 0.01, "deviation": 0.3},
    "g": {"steps": 3, "rate": 0.01, "resize": 0.3, "rotation": 40.0},
    "g each step": {"steps": 3, "rate": 0.01, "each_step": True},
    "a_with_noise": {"steps": 3, "rate": 0.02, "amount": 0.01},
    "a_transformed": {"steps": 3, "rate": 0.02, "resize": 0.2},
    "a_transformed each step": {"steps": 3, "rate": 0.02, "each_step": True},
}
all_variants = pytest.mark.parametrize("variant", VARIANTS)


class Smooth(nn.Module):
    """A small denoiser with derivatives of every order, [N,2,H,W]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.last = (
            torch.randn(3 if out else 2, 2 if out else 3, 3, 3, generator=generator).double() / 3
            for out in (True, False)
        )

    def forward(self, images):
        maps = torch.tanh(nn.functional.conv2d(images, self.first.to(images), padding=1))
        return torch.sigmoid(nn.functional.conv2d(maps, self.last.to(images), padding=1))


def error_of(denoise):
    return lambda images: (images - denoise(images)).square().flatten(1).sum(1)


def random_images(count=5, side=6, low=0.0, high=1.0):
    """Images of different contrast, and thus of different errors."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, 2, side, side, generator=generator, dtype=torch.float64)
    contrast = torch.linspace(0.1, 1, count, dtype=torch.float64).view(-1, 1, 1, 1)
    return low + (high - low) * (0.5 + contrast * (noise - 0.5))


ERROR, IMAGES = error_of(Smooth()), random_images()
_errors = ERROR(IMAGES).sort().values
CALIBRATION = {"mean": _errors[1:3].mean().item(), "deviation": _errors.std().item(), "images": 9}
MU, SIGMA = CALIBRATION["mean"], CALIBRATION["deviation"]


def purify(variant, images=IMAGES, ids=IDS, error=ERROR, **changes):
    function = getattr(apudae, variant.partition(" ")[0])
    available = {"calibration": CALIBRATION, "noise": Noise(0, ids, "test"), **changes}
    arguments = {k: v for k, v in available.items() if k in inspect.signature(function).parameters}
    return function(images=images, error=error, **arguments, **VARIANTS.get(variant, {}))


# ---------------------------------------------------------------- the references


def error(image) -> torch.Tensor:
    return ((image - Smooth()(image[None])[0]) ** 2).sum()


def gradient_descent(image, steps, rate, change, sign=False):
    """Equation 8; `change(i, image)` returns the image before the step, and its noise."""
    for number in range(steps):
        image, noise = change(number, image)
        leaf = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(error(leaf), leaf)
        image = image + noise - rate * (torch.sign(gradient) if sign else gradient)
    return image


def adam(image, steps, rate, loss, change, scale=lambda current, number: 1.0):
    """Adam (Kingma and Ba 2015, algorithm 1)."""
    mean, square = torch.zeros_like(image), torch.zeros_like(image)
    for number in range(steps):
        image, noise = change(number, image)
        leaf = image.clone().requires_grad_()
        current = error(leaf)
        (gradient,) = torch.autograd.grad(loss(current), leaf)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = mean / (1 - 0.9 ** (number + 1)), square / (1 - 0.999 ** (number + 1))
        step = corrected[0] / (torch.sqrt(corrected[1]) + 1e-8)
        image = image + noise - rate * scale(current.item(), number) * step
    return image


def transformed(image, numbers, resize, rotation):
    """Bilinear resampling pixel by pixel, with zeros outside."""
    factor, angle = 1 + resize * float(numbers[0]), math.radians(rotation * float(numbers[1]))
    height, width = image.shape[1:]
    new = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            down, right = (row - (height - 1) / 2) / factor, (column - (width - 1) / 2) / factor
            y = (height - 1) / 2 + math.cos(angle) * down + math.sin(angle) * right
            x = (width - 1) / 2 + math.cos(angle) * right - math.sin(angle) * down
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        share = (1 - abs(y - i)) * (1 - abs(x - j))
                        new[:, row, column] += share * image[:, i, j]
    return new


def reference(variant, image, number):
    name, _, extra = variant.partition(" ")
    settings = dict(VARIANTS[variant])
    steps, rate = settings["steps"], settings["rate"]
    noise = Noise(0, [number], "test")
    resize, rotation = settings.get("resize", 0.1), settings.get("rotation", 10.0)

    def transform(current):
        return transformed(current, noise.uniform(torch.empty(1, 2), -1, 1)[0], resize, rotation)

    def change(step, current):
        if name in ("g", "a_transformed") and (extra or step == 0):
            current = transform(current)
        added = torch.zeros_like(current)
        if name in ("f", "a_with_noise"):
            sigma = settings.get("deviation", SIGMA)
            z_score = (error(current).item() - MU) / (2 * sigma)
            amplitude = settings["amount"] * min(z_score**2, 4)
            added = amplitude * noise.uniform(current[None], -1, 1)[0].double()
        return current, added

    def excess(current):
        return torch.maximum(current - MU, torch.zeros(())) ** 2 / SIGMA**2

    if name.startswith("a"):
        result = gradient_descent(image, steps, rate, change, sign=settings.get("sign", False))
    elif name == "b":
        result = adam(image, steps, rate, lambda current: current, change)
    elif name == "c":
        first = error(image).item()

        def scale(current, step):
            z_score = ((current if extra == "each step" else first) - MU) / SIGMA
            if extra == "gaussian":
                return 1 - math.exp(-(z_score**2) / 2) if z_score > 0 else 0.0
            return 1 / (1 + math.exp(-z_score))

        result = adam(image, steps, rate, lambda current: current, change, scale)
    elif name == "d":
        result = adam(image, steps, rate, lambda current: (current - MU) ** 2 / SIGMA**2, change)
    elif extra == "rest":
        result = adam(image, steps, rate, excess, change, lambda current, _: float(current > MU))
    else:
        result = adam(image, steps, rate, excess, change)
    return result.clamp(0, 1)


@all_variants
def test_equals_its_formula(variant):
    expected = torch.stack([reference(variant, *pair) for pair in zip(IMAGES, IDS, strict=True)])
    result = purify(variant)
    assert result.dtype == torch.float64 and not result.requires_grad
    assert torch.allclose(result, expected, atol=1e-9)
    assert not torch.allclose(result, IMAGES, atol=1e-3)


# ---------------------------------------------------------------- properties


@all_variants
def test_images_do_not_influence_each_other(variant):
    together, order = purify(variant), torch.tensor([4, 0, 2, 1, 3])
    ids = [IDS[i] for i in order]
    assert torch.allclose(purify(variant, IMAGES[order], ids), together[order], atol=1e-12)
    for row in range(len(IDS)):
        alone = purify(variant, IMAGES[row : row + 1], IDS[row : row + 1])
        assert torch.allclose(alone, together[row : row + 1], atol=1e-12)


def test_the_error_decreases_with_the_steps():
    errors = [ERROR(IMAGES)]
    for steps in (4, 12):
        errors.append(ERROR(apudae.a(IMAGES, ERROR, steps=steps, rate=0.02)))
    assert (errors[2] < errors[1]).all() and (errors[1] < errors[0]).all()


def test_d_increases_low_errors_and_e_does_not():
    low = ERROR(IMAGES) <= MU
    assert low.any() and not low.all()
    assert (ERROR(purify("d"))[low] > ERROR(IMAGES)[low]).all()
    for variant in ("e", "e rest"):
        purified = purify(variant)
        assert torch.equal(purified[low], IMAGES[low])
        assert (ERROR(purified)[~low] < ERROR(IMAGES)[~low]).all()


def test_images_that_do_not_move_cost_one_pass():
    batch_sizes = []

    def counted(images):
        batch_sizes.append(len(images))
        return ERROR(images)

    purify("e", error=counted)
    above = int((ERROR(IMAGES) > MU).sum())
    assert batch_sizes == [5] + [above] * 7
    batch_sizes.clear()
    apudae.e(IMAGES, counted, {"mean": 1e9, "deviation": 1.0}, steps=9)
    assert batch_sizes == [5]


RANDOM = [name for name in VARIANTS if name[0] in "fg" or name.startswith("a_")]


@pytest.mark.parametrize("variant", RANDOM)
def test_random_numbers_depend_on_the_image(variant):
    assert torch.equal(purify(variant), purify(variant))
    assert not torch.allclose(purify(variant, ids=[n + 1 for n in IDS]), purify(variant))
    noise = Noise(0, IDS, "test")
    draws = [purify(variant, noise=noise) for _ in range(2)]
    assert torch.equal(draws[0], purify(variant))
    assert not torch.allclose(draws[0], draws[1])


def test_noise_is_bounded_for_large_errors():
    steps = {"steps": 1, "rate": 0.0, "amount": 0.01}
    calibration = {"mean": 0.0, "deviation": 1e-6}
    grey = torch.full_like(IMAGES, 0.5)
    moved = apudae.f(grey, ERROR, calibration, Noise(0, IDS, "test"), **steps) - grey
    assert 0.036 < moved.abs().max() <= 0.04


def test_an_oblong_image_is_rotated_without_distortion():
    images = random_images(3, side=7)[:, :, :4]
    result = random_transform(images, Noise(0, IDS[:3], "test"), resize=0.2, rotation=50.0)(images)
    numbers = Noise(0, IDS[:3], "test").uniform(torch.empty(3, 2), -1, 1)
    for image, random, actual in zip(images, numbers, result, strict=True):
        assert torch.allclose(transformed(image, random, 0.2, 50.0), actual, atol=1e-6)


def test_a_transform_without_range_is_the_identity():
    images = random_images(side=7)
    same = random_transform(images, Noise(0, IDS, "test"), resize=0.0, rotation=0.0)(images)
    assert torch.allclose(same, images, atol=1e-12)


@all_variants
def test_float32_and_channels_last_are_kept(variant):
    images = IMAGES.float().contiguous(memory_format=torch.channels_last)
    result = purify(variant, images)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(result.double(), purify(variant, images.double()), atol=2e-4)


# ---------------------------------------------------------------- gradients


@all_variants
def test_gradient_is_that_of_finite_differences(variant):
    """Through the whole procedure, including the inner gradients."""
    images = random_images(2, side=3, low=0.25, high=0.75).requires_grad_()
    calibration = {"mean": ERROR(images).mean().item(), "deviation": 0.5}

    def procedure(inputs):
        return purify(variant, inputs, IDS[:2], calibration=calibration)

    assert torch.autograd.gradcheck(procedure, images, eps=1e-7, atol=1e-4, rtol=1e-3)
    assert torch.equal(procedure(images).detach(), procedure(images.detach()))


def briefly_trained() -> nn.Module:
    torch.manual_seed(0)
    network = red_net((2, 8, 8), layers=6, width=4).double()
    with torch.no_grad():
        network.train()(torch.rand(8, 2, 8, 8).double())
    return network.eval().requires_grad_(False)


def test_gradient_through_a_relu_network_is_that_of_plain_unrolling():
    network_error = error_of(briefly_trained())
    images = random_images(3, side=8, low=0.2, high=0.8).requires_grad_()
    current = images
    for _ in range(4):
        (gradient,) = torch.autograd.grad(network_error(current).sum(), current, create_graph=True)
        current = current - 0.02 * gradient
    weights = torch.rand(current.shape, generator=torch.Generator().manual_seed(2)).double()
    (expected,) = torch.autograd.grad((current.clamp(0, 1) * weights).sum(), images)
    purified = apudae.a(images, network_error, steps=4, rate=0.02)
    (result,) = torch.autograd.grad((purified * weights).sum(), images)
    assert torch.allclose(result, expected, atol=1e-10)
    assert (expected - weights).abs().max() > 0.05


def test_elements_with_zero_gradient_have_finite_outer_gradients():
    """The derivative of Adam's root is infinite at 0; a clamping denoiser has such elements."""

    def error_of_some(images):
        return (images - 0.3)[:, :, :2].square().flatten(1).sum(1)

    images = IMAGES.clone().requires_grad_()
    purified = apudae.b(images, error_of_some, steps=3)
    (gradient,) = torch.autograd.grad(purified.sum(), images)
    assert gradient.isfinite().all()
    assert torch.equal(gradient[:, :, 2:], torch.ones_like(gradient[:, :, 2:]))


def test_no_graph_is_kept_if_none_is_required():
    calls = []

    def counted(images):
        calls.append(images.requires_grad)
        return ERROR(images)

    leaf = IMAGES.clone().requires_grad_()
    with torch.no_grad():
        assert not purify("b", leaf, error=counted).requires_grad
    assert not purify("b", error=counted).requires_grad
    assert calls == [True] * 10
    calls.clear()
    purified = purify("b", leaf, error=counted)
    assert len(calls) == 5
    purified.sum().backward()
    assert len(calls) == 10 and leaf.grad.isfinite().all()


def test_a_once_differentiable_layer_only_prevents_an_outer_gradient():
    network_error = error_of(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), FastELU()).double())
    leaf = IMAGES.clone().requires_grad_()
    apudae.b(IMAGES, network_error, steps=2)
    with pytest.raises(RuntimeError, match="fast ELU can be differentiated once"):
        apudae.b(leaf, network_error, steps=2).sum().backward()


def test_a_gradient_through_a_purifier_cannot_be_differentiated():
    leaf = IMAGES.clone().requires_grad_()
    purified = apudae.b(leaf, ERROR, steps=2)
    with pytest.raises(RuntimeError, match="cannot be differentiated itself"):
        torch.autograd.grad(purified.sum(), leaf, create_graph=True)


# ---------------------------------------------------------------- errors

FUNCTIONS = sorted({name.partition(" ")[0] for name in VARIANTS})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_refuses_invalid_images(name):
    for value in (math.nan, math.inf):
        broken = IMAGES.clone()
        broken[1, 0, 2, 2] = value
        with pytest.raises(BadInput, match="not finite"):
            purify(name, broken)
    for scaled in (255 * IMAGES, 2 * IMAGES - 1):
        with pytest.raises(BadInput, match=r"must be in \[0,1\]"):
            purify(name, scaled)
    with pytest.raises(BadInput, match="the batch is empty"):
        purify(name, IMAGES[:0], ids=[])
    purify(name, IMAGES * (1 + 2e-5))  # rounding


@pytest.mark.parametrize("name", ["c", "d", "e", "f", "g", "a_with_noise"])
def test_refuses_to_work_without_calibration(name):
    with pytest.raises(BadInput, match=f"apudae.{name} needs the calibration"):
        purify(name, calibration=None)
    for deviation in (0.0, math.nan):
        with pytest.raises(BadInput, match="calibrate on at least two"):
            purify(name, calibration={"mean": 1.0, "deviation": deviation})


def test_refuses_an_unknown_form():
    with pytest.raises(BadInput, match="must be one of sigmoid, gaussian, got 'linear'"):
        apudae.c(IMAGES, ERROR, CALIBRATION, form="linear")


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("variant", "key", "value", "words"),
    [
        ("a", "steps", 0, "must be at least 1, got 0"),
        ("a", "rate", -0.01, "must be greater than 0, got -0.01"),
        ("b", "rate", 2, "must be in (0, 1], got 2"),
        ("c", "form", "sigmod", "must be 'sigmoid' or 'gaussian', got 'sigmod'; did"),
        ("f", "amount", math.inf, "must be a finite number, got inf"),
        ("g", "resize", 1.0, "must be in [0, 1), got 1.0"),
        ("g", "rotation", 360, "must be in [0, 180], got 360"),
    ],
)
def test_settings_outside_of_their_range_are_refused(variant, key, value, words):
    config = read_files(mini.CONFIG)
    entry = {"function": f"apudae.{variant}", "denoiser": "dae", "settings": {key: value}}
    config["purifiers"]["mine"] = entry
    message = f"purifiers.mine.settings.{key}: {words}"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}"):
        configuration.read(config)
