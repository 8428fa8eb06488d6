import math

import pytest
import torch

from advdenoise.noise import Noise
from advdenoise.training._augment import _crop, _random_windows, _warp, augment, augment_with_masks

N = 64


def random_images(height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(N, 3, height, width, generator=generator)


def noise(n: int = N) -> Noise:
    return Noise(0, range(n), "augment")


def constant(value: float) -> torch.Tensor:
    return torch.full((N,), float(value))


def test_without_settings_images_are_returned():
    images = random_images()
    assert augment(images, noise()) is images


def test_rotation_by_90_degrees_is_rot90():
    rotated = _warp(random_images(), constant(math.pi / 2), constant(0), constant(0))
    torch.testing.assert_close(rotated, torch.rot90(random_images(), 1, (2, 3)), atol=1e-5, rtol=0)


def test_rotation_of_a_rectangle_by_180_degrees():
    images = random_images(6, 10)
    rotated = _warp(images, constant(math.pi), constant(0), constant(0))
    torch.testing.assert_close(rotated, images.flip(2, 3), atol=1e-5, rtol=0)


def test_rotation_of_a_rectangle_keeps_lengths():
    # A point 3 pixels right of the centre is rotated to 3 pixels above it.
    images = torch.zeros(1, 1, 9, 15)
    images[0, 0, 4, 10] = 1
    quarter = torch.tensor([math.pi / 2])
    rotated = _warp(images, quarter, torch.zeros(1), torch.zeros(1))
    assert rotated[0, 0, 1, 7] == pytest.approx(1, abs=1e-5)


def test_a_shift_by_whole_pixels_repeats_the_border():
    images = random_images(8, 4)
    warped = _warp(images, constant(0), constant(2 / 8), constant(-1 / 4))  # 2 down, 1 to the left
    expected = torch.cat([images[:, :, :1], images[:, :, :1], images[:, :, :-2]], dim=2)
    expected = torch.cat([expected[..., 1:], expected[..., -1:]], dim=3)
    torch.testing.assert_close(warped, expected, atol=1e-5, rtol=0)


def test_a_shift_by_half_a_pixel_averages_neighbours():
    images = random_images()
    warped = _warp(images, constant(0), constant(0), constant(0.5 / 8))
    expected = (images[..., :-1] + images[..., 1:]) / 2
    torch.testing.assert_close(warped[..., 1:], expected, atol=1e-5, rtol=0)


def test_crops_are_windows_of_the_zero_padded_image():
    images = random_images(5, 6)
    corners = torch.stack([torch.arange(N) % 5, (torch.arange(N) // 5) % 5], dim=1)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    mirrored = torch.arange(N) % 2 == 1
    crops = _crop(images, 2, corners, mirrored)
    for i, (row, column) in enumerate(corners.tolist()):
        window = padded[i, :, row : row + 5, column : column + 6]
        assert torch.equal(crops[i], window.flip(2) if mirrored[i] else window)


def test_crops_take_all_positions():
    image = torch.arange(1, 17.0).reshape(1, 1, 4, 4).expand(2000, 1, 4, 4)
    crops = augment(image, noise(2000), crop=1)
    padded = torch.nn.functional.pad(image[:1], (1, 1, 1, 1))[0, 0]
    windows = {
        tuple(padded[i : i + 4, j : j + 4].flatten().tolist()) for i in range(3) for j in range(3)
    }
    assert {tuple(row.flatten().tolist()) for row in crops} == windows


def test_about_half_of_the_images_are_mirrored():
    image = random_images()[:1].expand(1000, 3, 8, 8)
    flipped = augment(image, noise(1000), flip=True)
    unchanged = (flipped == image).flatten(1).all(1)
    mirrored = (flipped == image.flip(3)).flatten(1).all(1)
    assert (unchanged ^ mirrored).all()
    assert 430 < mirrored.sum() < 570


def test_rotations_and_shifts_stay_inside_their_limits():
    # A bright centre pixel of a dark image shows the movement.
    images = torch.zeros(500, 1, 21, 21)
    images[:, 0, 10, 10] = 1
    augmented = augment(images, noise(500), shift=0.1, rotation=180.0)
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    mass = augmented.sum((1, 2, 3))
    down = (augmented[:, 0] * rows).sum((1, 2)) / mass - 10
    right = (augmented[:, 0] * columns).sum((1, 2)) / mass - 10
    for offset in (down, right):
        assert offset.abs().max() < 2.1 + 0.25  # the mass of a bilinear pixel is not quite centred
        assert offset.max() > 1.5 and offset.min() < -1.5 and abs(offset.mean()) < 0.2


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 12)])
def test_a_quarter_of_the_area_is_half_the_sides(height, width):
    """The enlarged upper left window equals its interpolation, except at the border."""
    images = random_images(height, width)
    corner = torch.tensor([[0.5, -0.5, -0.5]]).expand(N, 3)
    result = _warp(images, constant(0), constant(0), constant(0), corner)
    window = images[:, :, : height // 2, : width // 2]
    expected = torch.nn.functional.interpolate(window, (height, width), mode="bilinear")
    inside = (..., slice(0, height - 1), slice(0, width - 1))
    torch.testing.assert_close(result[inside], expected[inside], atol=1e-5, rtol=0)


def test_windows_are_inside_with_all_sizes_and_positions():
    random = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    side, *centre = _random_windows(random, 0.49).unbind(1)
    area = side**2
    assert area.min() >= 0.49 and area.max() <= 1 and area.mean() == pytest.approx(0.745, abs=0.02)
    for coordinate in centre:
        assert ((coordinate.abs() + side) <= 1 + 1e-6).all()
        large, small = side > 0.95, side < 0.75
        assert coordinate[large].abs().max() <= 0.05
        assert coordinate[small].max() > 0.2 and coordinate[small].min() < -0.2
    assert torch.corrcoef(torch.stack(centre))[0, 1].abs() < 0.1


def test_scale_enlarges_a_window_of_each_image():
    images = random_images()
    result = augment(images, noise(), scale=0.5)
    streams = noise()
    streams.uniform(images.new_empty(N, 6))
    windows = _random_windows(streams.uniform(images.new_empty(N, 3)), 0.5)
    for i in (0, 7, 20):
        side, column, row = windows[i].tolist()
        theta = torch.tensor([[[side, 0, column], [0, side, row]]])
        grid = torch.nn.functional.affine_grid(theta, [1, 3, 8, 8], align_corners=False)
        expected = torch.nn.functional.grid_sample(
            images[i : i + 1], grid, padding_mode="border", align_corners=False
        )
        torch.testing.assert_close(result[i : i + 1], expected, atol=1e-5, rtol=0)


def test_scale_does_not_change_other_random_numbers():
    """So results without the setting do not depend on it."""
    flipped = augment(random_images(), noise(), scale=0.999999, flip=True)
    expected = augment(random_images(), noise(), flip=True)
    torch.testing.assert_close(flipped, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "settings", [{"scale": 0.6}, {"crop": 2}, {"shift": 0.1, "rotation": 15.0}, {"flip": True}]
)
def test_layout_range_and_independence_of_the_batch(settings):
    images = random_images().contiguous(memory_format=torch.channels_last)
    warped = augment(images, noise(), **settings)
    assert warped.shape == images.shape
    assert warped.is_contiguous(memory_format=torch.channels_last)
    assert warped.min() >= 0 and warped.max() <= 1
    alone = augment(images[5:7], noise().take(torch.tensor([5, 6])), **settings)
    torch.testing.assert_close(warped[5:7], alone)
    assert augment(random_images(), noise(), **settings).is_contiguous()


def labelled(height: int = 33, width: int = 65) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose brightness is the class of the mask, in blocks, so that both can be compared."""
    generator = torch.Generator().manual_seed(2)
    classes = torch.randint(1, 10, (N, 5, 5), generator=generator)
    rows, columns = torch.arange(height) * 5 // height, torch.arange(width) * 5 // width
    masks = classes[:, rows][:, :, columns]
    return (masks / 10)[:, None].expand(-1, 3, -1, -1).contiguous(), masks


def test_without_settings_masks_are_returned():
    images, masks = labelled()
    warped = augment_with_masks(images, masks, noise())
    assert warped[0] is images and warped[1] is masks


def test_a_mask_is_mirrored_with_its_image():
    images, masks = labelled()
    channels_last = images.to(memory_format=torch.channels_last)
    warped, warped_masks = augment_with_masks(channels_last, masks, noise(), flip=True)
    mirrored = (warped_masks == masks.flip(2)).flatten(1).all(1)
    assert 0.3 < mirrored.float().mean() < 0.7
    assert torch.equal(warped, (warped_masks / 10)[:, None].expand(-1, 3, -1, -1))
    assert warped.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("scale", [(2.0, 2.0), (0.5, 0.5), (0.5, 2.0)])
def test_a_mask_is_scaled_with_its_image(scale):
    images, masks = labelled()
    warped, warped_masks = augment_with_masks(images, masks, noise(), scale=scale, flip=True)
    assert warped.shape == images.shape and warped_masks.dtype == torch.int64
    inside = warped_masks != 255
    assert set(warped_masks[inside].tolist()) <= set(range(1, 10))
    # Between blocks and at the edges of images, brightness is interpolated.
    difference = (warped[:, 0] - warped_masks / 10)[inside].abs()
    assert (difference < 1e-3).float().mean() > 0.6
    assert (warped[:, 0][~inside] < 0.95).all()
    if scale == (0.5, 0.5):
        assert inside.float().mean() == pytest.approx(0.25, abs=0.03)
        assert len({tuple(mask.nonzero()[0].tolist()) for mask in inside}) > N / 2
    if scale == (2.0, 2.0):
        assert inside.all() and all(len(mask.unique()) <= 9 for mask in warped_masks)
    again = augment_with_masks(images, masks, noise(), scale=scale, flip=True)
    assert torch.equal(again[0], warped) and torch.equal(again[1], warped_masks)
