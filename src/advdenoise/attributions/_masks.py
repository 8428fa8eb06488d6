"""What is masked: one segment of an image at a time, in all its channels or in one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from advdenoise.errors import BadInput, suggest

Masking = str | float | Sequence[float]

WORDS = ("black", "image_mean")


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of N images, numbered image by image and, within one, by segment.

    Attributes:
        images: float [N, C, H, W].
        segments: labels 0..K-1 of each image, int64 [N, H, W] on the CPU.
        fill: what masked pixels become, float [N, C, 1, 1].
        apart: masks cover a single channel; an image of K segments then has C K of them, the
            channels of a segment together.
    """

    images: Tensor
    segments: np.ndarray
    fill: Tensor
    apart: bool = False

    @property
    def per_segment(self) -> int:
        return self.images.shape[1] if self.apart else 1

    @property
    def counts(self) -> np.ndarray:
        """Masks of each image."""
        return (self.segments.reshape(len(self.segments), -1).max(1) + 1) * self.per_segment

    @property
    def are_pixels(self) -> bool:
        """Whether each segment is a single pixel."""
        return bool((self.counts == self.segments[0].size * self.per_segment).all())

    def within_image(self, numbers: np.ndarray) -> np.ndarray:
        """From numbers among all masks to numbers among those of the same image."""
        ends = np.cumsum(self.counts)
        image = np.searchsorted(ends, numbers, side="right")
        return numbers - (ends - self.counts)[image]

    def part(self, start: int, stop: int) -> "Masks":
        """Those of some of the images."""
        return Masks(
            self.images[start:stop], self.segments[start:stop], self.fill[start:stop], self.apart
        )


def masks_of(
    images: Tensor, segments: Tensor | np.ndarray, masking: Masking, apart: bool = False
) -> Masks:
    """The masks of images [N, C, H, W] in [0, 1] with segment labels [N, H, W], 0..K-1 each.

    Args:
        masking: what masked pixels become: "black" (0), "image_mean" (per channel, of the image
            itself), or one number in [0, 1] for all channels or for each.
        apart: mask one channel at a time.

    Raises:
        BadInput: for another masking, for labels of another size than the images', for images
            that hold values that are not finite.
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
            "attributions: an image holds values that are not finite; look for what made it and "
            "make it again"
        )
    return Masks(images, labels.astype(np.int64), _fill(images, masking), apart)


def _fill(images: Tensor, masking: Masking) -> Tensor:
    if masking == "image_mean":
        return images.mean((2, 3), keepdim=True)
    if isinstance(masking, str) and masking != "black":
        raise BadInput(
            f"attributions: masking is {masking!r}; give a number in [0, 1], one for each "
            f"channel, or a word; {suggest(masking, WORDS)}"
        )
    values = [0.0] if masking == "black" else np.atleast_1d(masking).tolist()
    channels = images.shape[1]
    if len(values) not in (1, channels) or not all(0 <= value <= 1 for value in values):
        raise BadInput(
            f"attributions: masking is {masking}; give one number in [0, 1] or one for each of "
            f"the {channels} channels"
        )
    return images.new_tensor(values).view(1, -1, 1, 1).expand(len(images), channels, 1, 1)
