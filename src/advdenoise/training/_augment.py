"""Random crops, shifts, rotations and flips of a whole batch at once, also with its masks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from advdenoise.datasets._source import IGNORED
from advdenoise.noise import Noise


def augment(
    images: Tensor,
    noise: Noise,
    *,
    crop: int = 0,
    shift: float = 0.0,
    rotation: float = 0.0,
    scale: float = 1.0,
    flip: bool = False,
) -> Tensor:
    """Move every image of a batch by its own random numbers.

    `crop` is the CIFAR ResNets' augmentation, `shift` and `rotation` are those of Keras's
    ImageDataGenerator, `scale` is the random resized crop of "propagation" (section 2.2, "range
    0.85~1.0").

    Args:
        images: [N, C, H, W] float32 in [0, 1].
        noise: one stream per image; each gives six numbers if anything is asked for, and three
            more with `scale`.
        crop: pad by so many zero pixels on all sides, then cut out H x W at a random whole place.
        shift: move by up to this fraction of height and width, between pixels, border repeated.
        rotation: turn by up to so many degrees either way, between pixels, border repeated.
        scale: enlarge a random window to the size of the image, between pixels: of the image's
            shape, at a random place inside it, its area from this share to all of the image's.
        flip: mirror left and right with probability 1/2.

    Returns:
        Images of the same shape and range, channels-last where `images` are.
    """
    if not (crop or shift or rotation or scale < 1 or flip):
        return images
    layout = _layout(images)
    random = noise.uniform(images.new_empty(len(images), 6))
    window = None
    if scale < 1:
        window = _window(noise.uniform(images.new_empty(len(images), 3)), scale)
    if shift or rotation or scale < 1:
        turn, down, right = (2 * random[:, :3] - 1).unbind(1)
        # Under autocast places would have eight bits, too few.
        with torch.autocast(images.device.type, enabled=False):
            images = _move(
                images, turn * math.radians(rotation), down * shift, right * shift, window
            )
    if crop or flip:
        corners = (random[:, 3:5] * (2 * crop + 1)).long()
        images = _cut(images, crop, corners, mirrored=(random[:, 5] < 0.5) & flip)
    return images.contiguous(memory_format=layout)


def augment_with_masks(
    images: Tensor,
    masks: Tensor,
    noise: Noise,
    *,
    scale: Sequence[float] = (1.0, 1.0),
    flip: bool = False,
) -> tuple[Tensor, Tensor]:
    """Move every image and its mask alike, by its own random numbers, as DeepLab is trained.

    Args:
        images: [N, C, H, W] float32 in [0, 1].
        masks: [N, H, W] int64.
        noise: one stream per image; each gives four numbers if anything is asked for.
        scale: enlarge by a factor between these two. Of more than one a window of the image's size
            is left, at a random place; of less the image stands at a random place on black, which
            the mask ignores.
        flip: mirror left and right with probability 1/2.

    Returns:
        Images (bilinear) and masks (nearest) of the same shapes, images channels-last where they
        were.
    """
    low, high = scale
    if not (flip or (low, high) != (1, 1)):
        return images, masks
    layout = _layout(images)
    random = noise.uniform(images.new_empty(len(images), 4))
    if (low, high) != (1, 1):
        grid = _scaled(images, low + (high - low) * random[:, :1], random[:, 1:3])
        images = functional.grid_sample(images, grid, align_corners=False)
        # Outside of an image there are zeros, which are to be the value that is ignored.
        shifted = (masks[:, None] - IGNORED).float()
        moved = functional.grid_sample(shifted, grid, mode="nearest", align_corners=False)
        masks = (moved[:, 0] + IGNORED).long()
    if flip:
        mirrored = random[:, 3] < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        masks = torch.where(mirrored[:, None, None], masks.flip(2), masks)
    return images.contiguous(memory_format=layout), masks


def _scaled(images: Tensor, factor: Tensor, random: Tensor) -> Tensor:
    """The places in images [N, ...] enlarged by a factor [N, 1] that they are to be taken from.

    `random` [N, 2] in [0, 1) says where the window lies in the image, or the image in the window.
    """
    side = 1 / factor
    centre = (1 - side) * (2 * random - 1)
    zero = torch.zeros_like(side)
    theta = torch.stack(
        [torch.cat([side, zero, centre[:, :1]], 1), torch.cat([zero, side, centre[:, 1:]], 1)], 1
    )
    # Under autocast places would have eight bits, too few.
    with torch.autocast(images.device.type, enabled=False):
        return functional.affine_grid(theta, list(images.shape), align_corners=False)


def _layout(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _cut(images: Tensor, pad: int, corners: Tensor, mirrored: Tensor) -> Tensor:
    """H x W windows of the zero-padded images, left and right exchanged where `mirrored` [N].

    `corners` [N, 2] are row and column of the window, in 0..2 pad.
    """
    n, depth, height, width = images.shape
    device = images.device
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
    image = torch.arange(n, device=device)[:, None]
    rows = corners[:, :1] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = corners[:, 1:] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    # Whole pixels by their place in the padded batch: four times as fast as three indices.
    first = (image * padded.shape[1] + rows) * padded.shape[2]
    places = (first[:, :, None] + columns[:, None, :]).flatten()
    cut = padded.reshape(-1, depth).index_select(0, places)
    return cut.view(n, height, width, depth).permute(0, 3, 1, 2)


def _window(random: Tensor, scale: float) -> Tensor:
    """Side and centre of a window in each image, [N, 3], from numbers in [0, 1).

    The side is a fraction of the image's, its square uniform in [scale, 1]; column and row of the
    centre are in grid_sample's coordinates.
    """
    side = (scale + (1 - scale) * random[:, :1]).sqrt()
    return torch.cat([side, (1 - side) * (2 * random[:, 1:] - 1)], dim=1)


def _move(
    images: Tensor, angles: Tensor, down: Tensor, right: Tensor, window: Tensor | None = None
) -> Tensor:
    """Enlarge a window, turn it anticlockwise by `angles` [N] (radians) around its centre, shift.

    `down` and `right` are fractions of height and width, [N], of what is turned; without `window`
    that is the whole image. Bilinear, border repeated.
    """
    height, width = images.shape[2:]
    cosine, sine = torch.cos(angles), torch.sin(angles)
    # From an output pixel to its source, in grid_sample's coordinates (-1..1 across the image).
    theta = torch.stack(
        [
            torch.stack([cosine, -sine * height / width], dim=1),
            torch.stack([sine * width / height, cosine], dim=1),
        ],
        dim=1,
    )
    offset = theta @ torch.stack([-2 * right, -2 * down], dim=1)[:, :, None]
    if window is not None:
        theta, offset = (window[:, :1, None] * matrix for matrix in (theta, offset))
        offset = offset + window[:, 1:, None]
    grid = functional.affine_grid(
        torch.cat([theta, offset], dim=2), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
