import numpy as np
import pytest
import torch

from advdenoise.attributions import _masks
from advdenoise.errors import BadInput

IMAGES = torch.rand(2, 3, 4, 5)
LABELS = np.stack([np.zeros((4, 5), int), np.arange(20).reshape(4, 5)])


@pytest.mark.parametrize(("per_channel", "expected"), [(False, [1, 20]), (True, [3, 60])])
def test_masks_are_counted_and_numbered_image_by_image(per_channel, expected):
    masks = _masks.masks_of(IMAGES, LABELS, "black", per_channel)
    assert masks.counts.tolist() == expected
    numbers = np.arange(sum(expected))
    within = np.concatenate([np.arange(count) for count in expected])
    assert np.array_equal(masks.within_image(numbers), within)
    assert not masks.are_pixels
    assert masks.part(1, 2).are_pixels
    assert torch.equal(masks.part(1, 2).images, IMAGES[1:])


@pytest.mark.parametrize(
    "masking", ["blak", "mean_grey", 1.5, -0.1, float("nan"), [0.1, 0.2], [0.1, 0.2, 3.0]]
)
def test_an_unknown_masking_is_refused(masking):
    with pytest.raises(BadInput, match="attributions: masking is"):
        _masks.masks_of(IMAGES, LABELS, masking)


def test_labels_of_another_size_are_refused():
    with pytest.raises(BadInput, match=r"segments of shape \(2, 5, 4\) for images of shape"):
        _masks.masks_of(IMAGES, LABELS.transpose(0, 2, 1), "black")
