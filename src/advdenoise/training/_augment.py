"""Random crops, shifts, rotations and flips of whole batches, with or without masks."""

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
    """Augment each image of a batch by its own random numbers.

    `crop` is the augmentation of the CIFAR ResNets, `shift` and `rotation` are those of Keras's
    ImageDataGenerator, `scale` is the random resized crop of Yoon et al. 2019 (section 2.2, "range
    0.85~1.0").

    Args:
        images: [N, C, H, W] float32 in [0, 1].
        noise: one random stream per image, of which six numbers are drawn, three more with
            `scale`, and none without any augmentation.
        crop: pad by this number of zero pixels on all sides, then crop H x W at a random position.
        shift: translate by up to this fraction of height and width (bilinear, border replicated).
        rotation: rotate by up to this angle in degrees, either way (bilinear, border replicated).
        scale: enlarge a random window to the size of the image (bilinear); the window has the
            image's aspect ratio and from this share to all of its area.
        flip: mirror horizontally with probability 1/2.

    Returns:
        images of the same shape, range and memory format.
    """
    if not (crop or shift or rotation or scale < 1 or flip):
        return images
    memory_format = _memory_format(images)
    random = noise.uniform(images.new_empty(len(images), 6))
    windows = None
    if scale < 1:
        windows = _random_windows(noise.uniform(images.new_empty(len(images), 3)), scale)
    if shift or rotation or scale < 1:
        angle, down, right = (2 * random[:, :3] - 1).unbind(1)
        # In bfloat16, as under autocast, coordinates would be too coarse.
        with torch.autocast(images.device.type, enabled=False):
            images = _warp(
                images, angle * math.radians(rotation), down * shift, right * shift, windows
            )
    if crop or flip:
        corners = (random[:, 3:5] * (2 * crop + 1)).long()
        images = _crop(images, crop, corners, mirrored=(random[:, 5] < 0.5) & flip)
    return images.contiguous(memory_format=memory_format)


def augment_with_masks(
    images: Tensor,
    masks: Tensor,
    noise: Noise,
    *,
    scale: Sequence[float] = (1.0, 1.0),
    flip: bool = False,
) -> tuple[Tensor, Tensor]:
    """Augment each image and its mask alike by its own random numbers, as DeepLab is trained.

    Args:
        images: [N, C, H, W] float32 in [0, 1].
        masks: [N, H, W] int64.
        noise: one random stream per image, of which four numbers are drawn, none without any
            augmentation.
        scale: resize by a factor between these two. Above 1, a random window of the original size
            is kept; below 1, the image is placed at random on black, which the mask ignores.
        flip: mirror horizontally with probability 1/2.

    Returns:
        images (bilinear, in the same memory format) and masks (nearest) of the same shapes.
    """
    low, high = scale
    if not (flip or (low, high) != (1, 1)):
        return images, masks
    memory_format = _memory_format(images)
    random = noise.uniform(images.new_empty(len(images), 4))
    if (low, high) != (1, 1):
        grid = _scale_grid(images, low + (high - low) * random[:, :1], random[:, 1:3])
        images = functional.grid_sample(images, grid, align_corners=False)
        # grid_sample fills with zeros outside of the image, which must become IGNORED.
        offset_masks = (masks[:, None] - IGNORED).float()
        warped = functional.grid_sample(offset_masks, grid, mode="nearest", align_corners=False)
        masks = (warped[:, 0] + IGNORED).long()
    if flip:
        mirrored = random[:, 3] < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        masks = torch.where(mirrored[:, None, None], masks.flip(2), masks)
    return images.contiguous(memory_format=memory_format), masks


def _scale_grid(images: Tensor, factor: Tensor, random: Tensor) -> Tensor:
    """The sampling grid that resizes images [N, ...] by a factor [N, 1].

    `random` [N, 2] in [0, 1) is the position of the window in the image, or of the image in it.
    """
    side = 1 / factor
    centre = (1 - side) * (2 * random - 1)
    zero = torch.zeros_like(side)
    theta = torch.stack(
        [torch.cat([side, zero, centre[:, :1]], 1), torch.cat([zero, side, centre[:, 1:]], 1)], 1
    )
    # In bfloat16, as under autocast, coordinates would be too coarse.
    with torch.autocast(images.device.type, enabled=False):
        return functional.affine_grid(theta, list(images.shape), align_corners=False)


def _memory_format(images: Tensor) -> torch.memory_format:
    is_nhwc = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_nhwc else torch.contiguous_format


def _crop(images: Tensor, padding: int, corners: Tensor, mirrored: Tensor) -> Tensor:
    """H x W windows of the zero-padded images, mirrored horizontally where `mirrored` [N].

    `corners` [N, 2] are row and column of the window, in 0..2 padding.
    """
    n, depth, height, width = images.shape
    device = images.device
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    image = torch.arange(n, device=device)[:, None]
    rows = corners[:, :1] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = corners[:, 1:] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    # One flat index into the padded batch is four times as fast as three indices.
    row_starts = (image * padded.shape[1] + rows) * padded.shape[2]
    indices = (row_starts[:, :, None] + columns[:, None, :]).flatten()
    crops = padded.reshape(-1, depth).index_select(0, indices)
    return crops.view(n, height, width, depth).permute(0, 3, 1, 2)


def _random_windows(random: Tensor, scale: float) -> Tensor:
    """Side and centre of a random window in each image, [N, 3], from numbers in [0, 1).

    The side is a fraction of the image's, with its square uniform in [scale, 1]; column and row of
    the centre are in grid_sample's coordinates.
    """
    side = (scale + (1 - scale) * random[:, :1]).sqrt()
    return torch.cat([side, (1 - side) * (2 * random[:, 1:] - 1)], dim=1)


def _warp(
    images: Tensor, angles: Tensor, down: Tensor, right: Tensor, windows: Tensor | None = None
) -> Tensor:
    """Enlarge windows, rotate them anticlockwise by `angles` [N] (radians), and translate them.

    `down` and `right` [N] are fractions of the window's height and width; without `windows` these
    are the images themselves. Bilinear, border replicated.
    """
    height, width = images.shape[2:]
    cosine, sine = torch.cos(angles), torch.sin(angles)
    # Maps output pixels to their source, in grid_sample's coordinates (-1..1 across the image).
    theta = torch.stack(
        [
            torch.stack([cosine, -sine * height / width], dim=1),
            torch.stack([sine * width / height, cosine], dim=1),
        ],
        dim=1,
    )
    offset = theta @ torch.stack([-2 * right, -2 * down], dim=1)[:, :, None]
    if windows is not None:
        theta, offset = (windows[:, :1, None] * matrix for matrix in (theta, offset))
        offset = offset + windows[:, 1:, None]
    grid = functional.affine_grid(
        torch.cat([theta, offset], dim=2), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
