"""Corruptions against scikit-image, Pillow and the parameters of ImageNet-C."""

import functools
import io

import numpy as np
import pytest
import skimage.filters
import torch
from PIL import Image

from advdenoise.attacks import corruptions, noise
from advdenoise.calls import call_with
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

SEVERITIES = range(1, 6)
CORRUPTIONS = (corruptions.gaussian_noise, corruptions.gaussian_blur, corruptions.jpeg)


@pytest.fixture(scope="module")
def images():
    """Smooth colour images of 29x40 with an edge; some pixels are black or white."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 5, 6, generator=generator) * 1.6 - 0.3
    images = torch.nn.functional.interpolate(coarse, (29, 40), mode="bilinear").clamp(0, 1)
    images[:, :, 10:14, 7:30] = 1 - images[:, :, 10:14, 7:30]
    return images


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_noise_is_additive_with_the_papers_deviation(severity):
    grey = torch.full((2, 3, 40, 40), 0.5)
    sigma = [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1]
    result = corruptions.gaussian_noise(grey, Noise(0, range(2)), severity=severity)
    assert torch.equal(result, noise.gaussian(grey, Noise(0, range(2)), sigma=sigma))
    assert result.abs().max() <= 0.5 and (severity > 1 or abs(result.std() - sigma) < 0.002)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_blur_is_that_of_scikit_image(severity, images):
    """Also if the kernel is larger than the image."""
    sigma = [1, 2, 3, 4, 6][severity - 1]
    result = images + corruptions.gaussian_blur(images, severity=severity)
    for image, blurred in zip(images.numpy(), result.numpy(), strict=True):
        expected = skimage.filters.gaussian(image, sigma, channel_axis=0, mode="nearest")
        assert np.abs(blurred - expected).max() < 1e-5


def test_a_blurred_point_is_the_gaussian():
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    blurred = (point + corruptions.gaussian_blur(point, severity=2))[0, 0]
    offsets = torch.arange(-20, 21.0)
    expected = (-(offsets[:, None] ** 2 + offsets**2) / 8).exp() / (8 * torch.pi)
    assert torch.allclose(blurred, expected, atol=2e-5) and blurred.sum() == pytest.approx(1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_that_of_pillow(severity, channels, images):
    images = images[:, :channels]
    quality = [25, 18, 15, 10, 7][severity - 1]
    result = images + corruptions.jpeg(images, severity=severity)
    for image, compressed in zip(images.numpy(), result.numpy(), strict=True):
        pixels = np.rint(255 * image).astype(np.uint8)
        file = io.BytesIO()
        plain = pixels[0] if channels == 1 else np.moveaxis(pixels, 0, -1)
        Image.fromarray(plain).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file)).reshape(*plain.shape[:2], channels)
        assert np.allclose(compressed, np.moveaxis(decoded, -1, 0) / 255, atol=1e-6)


def test_jpeg_of_more_channels_is_refused():
    with pytest.raises(BadInput, match="1 or 3 channels, got 2"):
        corruptions.jpeg(torch.zeros(1, 2, 8, 8), severity=1)


@pytest.mark.parametrize("function", CORRUPTIONS, ids=lambda function: function.__name__)
def test_a_corruption_gets_worse_with_its_severity(function, images):
    changes = [run(function, images, severity).square().mean() for severity in SEVERITIES]
    assert all(mild < strong for mild, strong in zip(changes, changes[1:], strict=False))


@pytest.mark.parametrize("function", CORRUPTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("severity", [0, 6, -1])
def test_other_severities_are_refused(function, severity, images):
    with pytest.raises(BadInput, match=rf"settings\.severity: must be .* got {severity}"):
        run(function, images, severity)


@pytest.mark.parametrize("function", CORRUPTIONS, ids=lambda function: function.__name__)
def test_images_do_not_influence_each_other_and_the_layout_does_not_matter(function, images):
    together = run(function, images, 3)
    assert torch.equal(run(function, images[[2, 0]], 3, ids=[2, 0]), together[[2, 0]])
    nhwc = images.to(memory_format=torch.channels_last)
    assert torch.equal(run(function, nhwc, 3), together)


def run(function, images, severity, ids=None):
    noise = Noise(0, range(len(images)) if ids is None else ids, "test")
    return call_with(functools.partial(function, severity=severity), images=images, noise=noise)
