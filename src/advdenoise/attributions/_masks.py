"""Masks: one segment of an image at a time, in all channels or in a single one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from advdenoise.errors import BadInput, suggest

Masking = str | float | Sequence[float]

NAMES = ("black", "image_mean")


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of N images, numbered image by image and, within one, by segment.

    Attributes:
        images: float [N, C, H, W].
        segments: labels 0..K-1 of each image, int64 [N, H, W] on the CPU.
        fill: the value of masked pixels, float [N, C, 1, 1].
        per_channel: masks cover a single channel. An image of K segments then has C K masks,
            ordered by segment.
    """

    images: Tensor
    segments: np.ndarray
    fill: Tensor
    per_channel: bool = False

    @property
    def per_segment(self) -> int:
        return self.images.shape[1] if self.per_channel else 1

    @property
    def counts(self) -> np.ndarray:
        """The number of masks of each image: int64 [N]."""
        return (self.segments.reshape(len(self.segments), -1).max(1) + 1) * self.per_segment

    @property
    def are_pixels(self) -> bool:
        """Whether each segment is a single pixel."""
        return bool((self.counts == self.segments[0].size * self.per_segment).all())

    def within_image(self, numbers: np.ndarray) -> np.ndarray:
        """Convert numbers among all masks to numbers among those of the same image."""
        ends = np.cumsum(self.counts)
        image = np.searchsorted(ends, numbers, side="right")
        return numbers - (ends - self.counts)[image]

    def part(self, start: int, stop: int) -> "Masks":
        """The masks of the images from `start` to before `stop`."""
        rows = slice(start, stop)
        return Masks(self.images[rows], self.segments[rows], self.fill[rows], self.per_channel)


def masks_of(
    images: Tensor, segments: Tensor | np.ndarray, masking: Masking, per_channel: bool = False
) -> Masks:
    """The masks of images [N, C, H, W] in [0, 1] with segment labels [N, H, W], 0..K-1 each.

    Args:
        masking: the value of masked pixels: "black" (0), "image_mean" (of each channel of the
            image), or a number in [0, 1], one or one for each channel.
        per_channel: mask one channel at a time.

    Raises:
        BadInput: an unknown masking, labels whose size is not that of the images, or images with
            values that are not finite.
    """
    labels = np.asarray(segments.cpu() if isinstance(segments, Tensor) else segments)
    expected = (len(images), *images.shape[2:])
    if labels.shape != expected:
        raise BadInput(
            f"attributions: segments of shape {labels.shape} for images of shape "
            f"{tuple(images.shape)}; give one label for each pixel, {expected}"
        )
    if not images.isfinite().all():
        raise BadInput(
            "attributions: an image has values that are not finite; check what produced it and "
            "produce it again"
        )
    return Masks(images, labels.astype(np.int64), _fill(images, masking), per_channel)


def _fill(images: Tensor, masking: Masking) -> Tensor:
    if masking == "image_mean":
        return images.mean((2, 3), keepdim=True)
    if isinstance(masking, str) and masking != "black":
        raise BadInput(
            f"attributions: masking is {masking!r}; give a number in [0, 1], one for each "
            f"channel, or a name; {suggest(masking, NAMES)}"
        )
    values = [0.0] if masking == "black" else np.atleast_1d(masking).tolist()
    channels = images.shape[1]
    if len(values) not in (1, channels) or not all(0 <= value <= 1 for value in values):
        raise BadInput(
            f"attributions: masking is {masking}; give one number in [0, 1] or one for each of "
            f"the {channels} channels"
        )
    return images.new_tensor(values).view(1, -1, 1, 1).expand(len(images), channels, 1, 1)
