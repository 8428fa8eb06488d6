"""Leave-one-out by full passes over masked images, for any network.

Masks of many images share a forward pass, and each image has just as many of them as it needs.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from advdenoise.attributions._masks import Masks
from advdenoise.attributions._nodes import finite
from advdenoise.ops.devices import full_precision


def attributions(
    masks: Masks, outputs: Callable[[Tensor], Tensor], classes: int, batch: int = 128
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each image its probabilities [classes] and phi [D, masks].

    Memory holds one batch, and the outputs of the images that it touches.

    Args:
        outputs: from images [n, C, H, W] to nodes [n, D], of which the last are probabilities.
        classes: how many these are.
        batch: images in a forward pass, masked ones and whole ones together.

    Raises:
        BadInput: where an output is not finite.
    """
    # Mask -1 is none: its image is the whole one, in the same pass as the others.
    counts = masks.counts.tolist()
    image = np.repeat(np.arange(len(counts)), [count + 1 for count in counts])
    number = np.concatenate([np.arange(-1, count) for count in counts])
    segments = torch.from_numpy(masks.segments).to(masks.images.device)
    rows = _Rows()
    position = 0
    # Equal parts: a last pass of one image was seen to round otherwise than the passes before.
    passes = -(-len(image) // batch)
    for part in zip(np.array_split(image, passes), np.array_split(number, passes), strict=True):
        # Not around the caller's loop: a mode entered there would last while the generator waits.
        with torch.inference_mode(), full_precision():
            rows.append(finite(outputs(_masked(masks, segments, *part))))
        while position < len(counts) and len(rows) > counts[position]:
            whole, masked = rows.take(counts[position] + 1).tensor_split([1])
            yield whole[0, -classes:], (masked - whole).abs_().T
            position += 1


def _masked(masks: Masks, segments: Tensor, image: np.ndarray, number: np.ndarray) -> Tensor:
    image, number = (torch.from_numpy(array).to(segments.device) for array in (image, number))
    # Rounded down, so that -1 stays where no segment is.
    segment = number.div(masks.per_segment, rounding_mode="floor")
    masked = (segments[image] == segment[:, None, None])[:, None]
    if masks.apart:
        channels = torch.arange(masks.per_segment, device=segments.device)
        masked = masked & (number % masks.per_segment == channels[:, None]).T[:, :, None, None]
    images = masks.images.contiguous(memory_format=torch.channels_last)[image]
    return torch.where(masked, masks.fill[image], images)


class _Rows:
    """A queue of rows that come in blocks and leave in others."""

    def __init__(self):
        self._blocks = []

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def append(self, block: Tensor) -> None:
        self._blocks.append(block)

    def take(self, count: int) -> Tensor:
        joined = torch.cat(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
        taken, rest = joined.tensor_split([count])
        self._blocks = [rest] if len(rest) else []
        return taken
