import math

import pytest
import torch

from advdenoise.noise import Noise
from advdenoise.training._augment import _cut, _move, _window, augment, augment_with_masks

N = 64


def pictures(height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(N, 3, height, width, generator=generator)


def noise(n: int = N) -> Noise:
    return Noise(0, range(n), "augment")


def of_each(value: float) -> torch.Tensor:
    return torch.full((N,), float(value))


def test_nothing_asked_for_is_nothing_done():
    images = pictures()
    assert augment(images, noise()) is images


def test_a_quarter_turn_is_rot90():
    turned = _move(pictures(), of_each(math.pi / 2), of_each(0), of_each(0))
    torch.testing.assert_close(turned, torch.rot90(pictures(), 1, (2, 3)), atol=1e-5, rtol=0)


def test_half_a_turn_of_a_rectangle():
    images = pictures(6, 10)
    turned = _move(images, of_each(math.pi), of_each(0), of_each(0))
    torch.testing.assert_close(turned, images.flip(2, 3), atol=1e-5, rtol=0)


def test_a_turn_of_a_rectangle_keeps_lengths():
    # A point 3 pixels right of the centre is, after a quarter turn, 3 pixels above it.
    images = torch.zeros(1, 1, 9, 15)
    images[0, 0, 4, 10] = 1
    quarter = torch.tensor([math.pi / 2])
    turned = _move(images, quarter, torch.zeros(1), torch.zeros(1))
    assert turned[0, 0, 1, 7] == pytest.approx(1, abs=1e-5)


def test_a_shift_by_whole_pixels_repeats_the_border():
    images = pictures(8, 4)
    moved = _move(images, of_each(0), of_each(2 / 8), of_each(-1 / 4))  # 2 down, 1 to the left
    expected = torch.cat([images[:, :, :1], images[:, :, :1], images[:, :, :-2]], dim=2)
    expected = torch.cat([expected[..., 1:], expected[..., -1:]], dim=3)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_half_a_pixel_is_the_mean_of_neighbours():
    images = pictures()
    moved = _move(images, of_each(0), of_each(0), of_each(0.5 / 8))
    expected = (images[..., :-1] + images[..., 1:]) / 2
    torch.testing.assert_close(moved[..., 1:], expected, atol=1e-5, rtol=0)


def test_cuts_are_windows_of_the_zero_padded_image():
    images = pictures(5, 6)
    corners = torch.stack([torch.arange(N) % 5, (torch.arange(N) // 5) % 5], dim=1)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    mirrored = torch.arange(N) % 2 == 1
    cut = _cut(images, 2, corners, mirrored)
    for i, (row, column) in enumerate(corners.tolist()):
        window = padded[i, :, row : row + 5, column : column + 6]
        assert torch.equal(cut[i], window.flip(2) if mirrored[i] else window)


def test_crops_reach_all_places_and_only_those():
    image = torch.arange(1, 17.0).reshape(1, 1, 4, 4).expand(2000, 1, 4, 4)
    cut = augment(image, noise(2000), crop=1)
    padded = torch.nn.functional.pad(image[:1], (1, 1, 1, 1))[0, 0]
    windows = {
        tuple(padded[i : i + 4, j : j + 4].flatten().tolist()) for i in range(3) for j in range(3)
    }
    assert {tuple(row.flatten().tolist()) for row in cut} == windows


def test_flips_are_flips_of_about_half():
    image = pictures()[:1].expand(1000, 3, 8, 8)
    flipped = augment(image, noise(1000), flip=True)
    as_is = (flipped == image).flatten(1).all(1)
    mirrored = (flipped == image.flip(3)).flatten(1).all(1)
    assert (as_is ^ mirrored).all()
    assert 430 < mirrored.sum() < 570


def test_rotations_and_shifts_stay_inside_their_limits():
    # A bright centre pixel of a dark image tells where it went.
    images = torch.zeros(500, 1, 21, 21)
    images[:, 0, 10, 10] = 1
    moved = augment(images, noise(500), shift=0.1, rotation=180.0)
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(21.0), indexing="ij")
    mass = moved.sum((1, 2, 3))
    down = (moved[:, 0] * rows).sum((1, 2)) / mass - 10
    right = (moved[:, 0] * columns).sum((1, 2)) / mass - 10
    for move in (down, right):
        assert move.abs().max() < 2.1 + 0.25  # the mass of a bilinear pixel is not quite centred
        assert move.max() > 1.5 and move.min() < -1.5 and abs(move.mean()) < 0.2


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 12)])
def test_a_quarter_of_the_area_is_half_the_sides(height, width):
    """The upper left window, enlarged, is what interpolation makes of it inside its border."""
    images = pictures(height, width)
    corner = torch.tensor([[0.5, -0.5, -0.5]]).expand(N, 3)
    found = _move(images, of_each(0), of_each(0), of_each(0), corner)
    window = images[:, :, : height // 2, : width // 2]
    expected = torch.nn.functional.interpolate(window, (height, width), mode="bilinear")
    inside = (..., slice(0, height - 1), slice(0, width - 1))
    torch.testing.assert_close(found[inside], expected[inside], atol=1e-5, rtol=0)


def test_windows_lie_inside_and_have_all_sizes_and_places():
    random = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    side, *centre = _window(random, 0.49).unbind(1)
    area = side**2
    assert area.min() >= 0.49 and area.max() <= 1 and area.mean() == pytest.approx(0.745, abs=0.02)
    for place in centre:
        assert ((place.abs() + side) <= 1 + 1e-6).all()
        large, small = side > 0.95, side < 0.75
        assert place[large].abs().max() <= 0.05
        assert place[small].max() > 0.2 and place[small].min() < -0.2
    assert torch.corrcoef(torch.stack(centre))[0, 1].abs() < 0.1


def test_scale_enlarges_by_the_windows_of_each_image():
    images = pictures()
    found = augment(images, noise(), scale=0.5)
    streams = noise()
    streams.uniform(images.new_empty(N, 6))
    windows = _window(streams.uniform(images.new_empty(N, 3)), 0.5)
    for i in (0, 7, 20):
        side, column, row = windows[i].tolist()
        theta = torch.tensor([[[side, 0, column], [0, side, row]]])
        grid = torch.nn.functional.affine_grid(theta, [1, 3, 8, 8], align_corners=False)
        expected = torch.nn.functional.grid_sample(
            images[i : i + 1], grid, padding_mode="border", align_corners=False
        )
        torch.testing.assert_close(found[i : i + 1], expected, atol=1e-5, rtol=0)


def test_a_window_leaves_other_moves_their_numbers():
    """So the setting changes no run without it."""
    flipped = augment(pictures(), noise(), scale=0.999999, flip=True)
    torch.testing.assert_close(flipped, augment(pictures(), noise(), flip=True), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "settings", [{"scale": 0.6}, {"crop": 2}, {"shift": 0.1, "rotation": 15.0}, {"flip": True}]
)
def test_layout_range_and_independence_of_the_batch(settings):
    images = pictures().contiguous(memory_format=torch.channels_last)
    moved = augment(images, noise(), **settings)
    assert moved.shape == images.shape
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert moved.min() >= 0 and moved.max() <= 1
    alone = augment(images[5:7], noise().take(torch.tensor([5, 6])), **settings)
    torch.testing.assert_close(moved[5:7], alone)
    assert augment(pictures(), noise(), **settings).is_contiguous()


def labelled(height: int = 33, width: int = 65) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose brightness is their mask's class, in blocks, so that both can be compared."""
    generator = torch.Generator().manual_seed(2)
    classes = torch.randint(1, 10, (N, 5, 5), generator=generator)
    rows, columns = torch.arange(height) * 5 // height, torch.arange(width) * 5 // width
    masks = classes[:, rows][:, :, columns]
    return (masks / 10)[:, None].expand(-1, 3, -1, -1).contiguous(), masks


def test_masks_that_nothing_moves():
    images, masks = labelled()
    moved = augment_with_masks(images, masks, noise())
    assert moved[0] is images and moved[1] is masks


def test_a_mask_is_mirrored_with_its_image():
    images, masks = labelled()
    given = images.to(memory_format=torch.channels_last)
    moved, with_them = augment_with_masks(given, masks, noise(), flip=True)
    mirrored = (with_them == masks.flip(2)).flatten(1).all(1)
    assert 0.3 < mirrored.float().mean() < 0.7
    assert torch.equal(moved, (with_them / 10)[:, None].expand(-1, 3, -1, -1))
    assert moved.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("scale", [(2.0, 2.0), (0.5, 0.5), (0.5, 2.0)])
def test_a_mask_is_scaled_with_its_image(scale):
    images, masks = labelled()
    moved, with_them = augment_with_masks(images, masks, noise(), scale=scale, flip=True)
    assert moved.shape == images.shape and with_them.dtype == torch.int64
    inside = with_them != 255
    assert set(with_them[inside].tolist()) <= set(range(1, 10))
    # Between blocks brightness is mixed, and at an image's edge with black.
    apart = (moved[:, 0] - with_them / 10)[inside].abs()
    assert (apart < 1e-3).float().mean() > 0.6
    assert (moved[:, 0][~inside] < 0.95).all()
    if scale == (0.5, 0.5):
        assert inside.float().mean() == pytest.approx(0.25, abs=0.03)
        assert len({tuple(mask.nonzero()[0].tolist()) for mask in inside}) > N / 2
    if scale == (2.0, 2.0):
        assert inside.all() and all(len(mask.unique()) <= 9 for mask in with_them)
    again = augment_with_masks(images, masks, noise(), scale=scale, flip=True)
    assert torch.equal(again[0], moved) and torch.equal(again[1], with_them)
