"""Leave-one-out attributions and their spread.

An attribution is phi_i = |f(x_i) - f(x)|, where x_i is the image x with segment i masked and f any
nodes of the classifier. The feature of a node is the interquartile range of its phi over the
image's segments ("segfault", equations 1 and 2; ML-LOO). Masks of many images share a forward
pass, and each image has just as many of them as it has segments.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from scripts.advdenoise.components import suggest
from scripts.advdenoise.errors import BadInput

Masking = str | float | Sequence[float]

RULES = ("linear", "inverted_cdf")
WORDS = ("black", "image_mean")


def leave_one_out(
    images: Tensor,
    segments: Tensor,
    outputs: Callable[[Tensor], Tensor],
    masking: Masking,
    batch: int = 128,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each image f(x) [D] and phi [D, K], K the number of its segments.

    Memory holds one batch, and the outputs of the images that it touches.

    Args:
        images: float32 [N, C, H, W] in [0, 1], on the device of `outputs`.
        segments: labels 0..K-1 [N, H, W], whole numbers.
        outputs: from images [n, C, H, W] to nodes [n, D].
        masking: what masked pixels become: "black" (0), "image_mean" (per channel, of the image
            itself), or one number in [0, 1] for all channels or for each.
        batch: images in a forward pass, masked ones and whole ones together.

    Raises:
        BadInput: for another masking, or where an output is not finite.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    segments = torch.as_tensor(segments, device=images.device)
    fill = _fill(images, masking)
    # Segment -1 is nowhere: its masked image is the whole one, in the same pass as the others.
    counts = (segments.flatten(1).amax(1) + 1).tolist()
    image = np.repeat(np.arange(len(images)), [count + 1 for count in counts])
    segment = np.concatenate([np.arange(-1, count) for count in counts])
    rows = _Rows()
    position = 0
    # Equal parts: a last pass of one image was seen to round otherwise than the passes before.
    passes = -(-len(image) // batch)
    for part in zip(np.array_split(image, passes), np.array_split(segment, passes), strict=True):
        rows.append(_forward(images, segments, fill, outputs, *part))
        while position < len(counts) and len(rows) > counts[position]:
            whole, masked = rows.take(counts[position] + 1).tensor_split([1])
            yield whole[0], (masked - whole).abs_().T
            position += 1


def _forward(images, segments, fill, outputs, image: np.ndarray, segment: np.ndarray) -> Tensor:
    image = torch.from_numpy(image).to(images.device)
    segment = torch.from_numpy(segment).to(segments)[:, None, None]
    # Not around the caller's loop: a mode entered there would last while the generator waits.
    with torch.inference_mode():
        masked = (segments[image] == segment).unsqueeze(1)
        found = outputs(torch.where(masked, fill[image], images[image]))
        if not found.isfinite().all():
            raise BadInput(
                "attributions: the classifier gives values that are not finite for a masked "
                "image; train it again or look at the images"
            )
    return found


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


def _fill(images: Tensor, masking: Masking) -> Tensor:
    """What masked pixels become: [N, C, 1, 1]."""
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


def iqr(phi: Tensor, rule: str = "linear") -> Tensor:
    """Interquartile range over the last axis: [..., K] -> [...]; 0 where K is 1.

    Args:
        rule: "linear" (numpy's interpolation, what the authors ran) or "inverted_cdf" (the order
            statistic ceil(K p), what the paper prints).

    Raises:
        BadInput: for another rule.
    """
    count = phi.shape[-1]
    ordered = _sorted(phi)
    if rule == "linear":
        low, high = (_interpolated(ordered, (count - 1) * q) for q in (0.25, 0.75))
        return high - low
    if rule == "inverted_cdf":
        # -(-a // b) is the quotient rounded up, in whole numbers.
        return ordered[..., -(-3 * count // 4) - 1] - ordered[..., -(-count // 4) - 1]
    raise BadInput(f"attributions: quantile is {rule!r}; {suggest(rule, RULES)}")


def _sorted(phi: Tensor) -> Tensor:
    # On a CPU numpy's sort along a contiguous axis is eight times as fast as torch's.
    if phi.device.type == "cpu":
        return torch.from_numpy(np.sort(phi.contiguous().numpy(), axis=-1))
    return phi.sort(dim=-1).values


def _interpolated(ordered: Tensor, place: float) -> Tensor:
    below = int(place)
    above, weight = min(below + 1, ordered.shape[-1] - 1), place - below
    low, high = ordered[..., below], ordered[..., above]
    # From the nearer end, as numpy does, so that the result is the same to the last bit.
    if weight < 0.5:
        return low + (high - low) * weight
    return high - (high - low) * (1 - weight)


def iqr_features(
    images: Tensor,
    segments: Tensor,
    outputs: Callable[[Tensor], Tensor],
    masking: Masking,
    rule: str = "linear",
    batch: int = 128,
) -> tuple[Tensor, Tensor]:
    """f(x) and the IQR of phi of each image, both float32 [N, D] on the CPU.

    No phi outlives its image. Arguments and errors as in `leave_one_out` and `iqr`.
    """
    found = leave_one_out(images, segments, outputs, masking, batch)
    pairs = [(whole, iqr(phi, rule)) for whole, phi in found]
    whole, spread = (torch.stack(column).cpu() for column in zip(*pairs, strict=True))
    return whole, spread


def representations(whole: Tensor, spread: Tensor, classes: int) -> dict[str, Tensor]:
    """The feature vectors of "segfault" from one set of passes, by representation.

    Args:
        whole, spread: from `iqr_features`, [N, D], whose last `classes` columns are
            probabilities.

    Returns:
        `predicted` [N, 1] (the probability of the class that the whole image is given),
        `probabilities` [N, classes], `hidden` [N, D] (nodes and probabilities).
    """
    top = whole[:, -classes:].argmax(dim=1, keepdim=True)
    probabilities = spread[:, -classes:]
    return {
        "predicted": probabilities.gather(1, top),
        "probabilities": probabilities,
        "hidden": spread,
    }
