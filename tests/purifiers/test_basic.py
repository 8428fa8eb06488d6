"""The purifiers `none` and `direct`."""

import pytest
import torch

from advdenoise.errors import BadInput
from advdenoise.purifiers.basic import direct, none


def test_none_returns_the_images():
    images = torch.rand(2, 1, 4, 4) * 2 - 0.5
    assert none(images) is images


def test_direct_is_the_denoiser_clamped():
    images = torch.rand(2, 1, 4, 4)
    assert torch.equal(direct(images, lambda x: x / 2), images / 2)
    assert torch.equal(direct(images, lambda x: 3 * x - 1), (3 * images - 1).clamp(0, 1))


def test_direct_refuses_invalid_images():
    images = torch.rand(2, 1, 4, 4)
    with pytest.raises(BadInput, match="not finite"):
        direct(images / 0, lambda x: x)
    with pytest.raises(BadInput, match=r"must be in \[0,1\]"):
        direct(images - 1, lambda x: x)
    with pytest.raises(BadInput, match="empty"):
        direct(images[:0], lambda x: x)


def test_direct_refuses_a_denoiser_that_changes_the_shape():
    with pytest.raises(BadInput, match="turns images of 1x4x4 into 3x4x4"):
        direct(torch.rand(2, 1, 4, 4), lambda x: x.repeat(1, 3, 1, 1))
