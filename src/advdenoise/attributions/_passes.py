"""Leave-one-out attributions by forward passes of masked images, for any network.

Masks of several images share a forward pass, so that images with few masks cost no more.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from advdenoise.attributions._masks import Masks
from advdenoise.attributions._nodes import check_finite
from advdenoise.ops.devices import full_precision


def attributions(
    masks: Masks, outputs: Callable[[Tensor], Tensor], classes: int, batch: int = 128
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each image its probabilities [classes] and phi [D, masks].

    Only one batch, and the outputs of its images, are in memory.

    Args:
        outputs: images [n, C, H, W] -> nodes [n, D], the last of which are probabilities.
        classes: number of classes.
        batch: images in a forward pass, masked and unmasked.

    Raises:
        BadInput: an output is not finite.
    """
    # Number -1 is the unmasked image, in the same pass as the masked ones.
    counts = masks.counts.tolist()
    image = np.repeat(np.arange(len(counts)), [count + 1 for count in counts])
    number = np.concatenate([np.arange(-1, count) for count in counts])
    segments = torch.from_numpy(masks.segments).to(masks.images.device)
    rows = _RowQueue()
    image_index = 0
    # Equal parts: a last pass of a single image was observed to round differently.
    passes = -(-len(image) // batch)
    for part in zip(np.array_split(image, passes), np.array_split(number, passes), strict=True):
        # Not around the loop: the mode would stay active while the generator is suspended.
        with torch.inference_mode(), full_precision():
            rows.append(check_finite(outputs(_masked(masks, segments, *part))))
        while image_index < len(counts) and len(rows) > counts[image_index]:
            clean, masked = rows.take(counts[image_index] + 1).tensor_split([1])
            yield clean[0, -classes:], (masked - clean).abs_().T
            image_index += 1


def _masked(masks: Masks, segments: Tensor, images: np.ndarray, numbers: np.ndarray) -> Tensor:
    image, number = (torch.from_numpy(array).to(segments.device) for array in (images, numbers))
    # Rounded down, so that -1 stays -1, which is no segment.
    segment = number.div(masks.per_segment, rounding_mode="floor")
    masked = (segments[image] == segment[:, None, None])[:, None]
    if masks.per_channel:
        channels = torch.arange(masks.per_segment, device=segments.device)
        masked = masked & (number % masks.per_segment == channels[:, None]).T[:, :, None, None]
    images = masks.images.contiguous(memory_format=torch.channels_last)[image]
    return torch.where(masked, masks.fill[image], images)


class _RowQueue:
    """A queue of rows that are appended and taken in blocks of different sizes."""

    def __init__(self):
        self._blocks = []

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def append(self, block: Tensor) -> None:
        self._blocks.append(block)

    def take(self, count: int) -> Tensor:
        joined = torch.cat(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
        head, rest = joined.tensor_split([count])
        self._blocks = [rest] if len(rest) else []
        return head
