"""The purifiers without a procedure."""

import torch

from scripts.advdenoise.purifiers.basic import direct, none


def test_none_gives_the_images_back():
    images = torch.rand(2, 1, 4, 4) * 2 - 0.5
    assert none(images) is images


def test_direct_is_the_denoiser_clamped():
    images = torch.rand(2, 1, 4, 4)
    assert torch.equal(direct(images, lambda x: x / 2), images / 2)
    assert torch.equal(direct(images, lambda x: 3 * x - 1), (3 * images - 1).clamp(0, 1))
