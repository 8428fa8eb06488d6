"""The first layer of every classifier: resizing and normalisation of images in [0,1]."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput


class Normalise(nn.Module):
    """Bilinear resizing if `size` is given, then (images - mean) / std, for float [N,C,H,W].

    The values are settings and not part of the state dict.

    Args:
        channels: C.
        mean, std: one number, or one for each channel, in pixel units.
        size: side, or [height, width], of the network's input.

    Raises:
        BadInput: values that do not fit the channels, or a standard deviation that is not positive.
    """

    def __init__(
        self,
        channels: int,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        size: int | Sequence[int] | None = None,
    ):
        super().__init__()
        self.register_buffer("mean", _per_channel("mean", mean, channels), persistent=False)
        self.register_buffer("std", _per_channel("std", std, channels), persistent=False)
        if not (self.std > 0).all():
            raise BadInput(f"settings.std: must be positive, got {std}")
        self.size = (size, size) if isinstance(size, int) else size
        self._centred = not self.mean.any()
        self._scaled = bool((self.std == 1).all())

    def forward(self, images: Tensor) -> Tensor:
        if self.size is not None:
            images = functional.interpolate(images, self.size, mode="bilinear", align_corners=False)
        return self.scale(images)

    def scale(self, images: Tensor) -> Tensor:
        """(images - mean) / std, without resizing."""
        if not self._centred:
            images = images - self.mean
        return images if self._scaled else images / self.std

    def unscale(self, images: Tensor) -> Tensor:
        """images * std + mean at the size that they have: what `scale` was given."""
        return images * self.std + self.mean

    def without_std(self) -> "Normalise":
        """The same layer with standard deviation 1, for a network that divides by it elsewhere."""
        other = copy.deepcopy(self)
        other.std.fill_(1)
        other._scaled = True
        return other


class Normalised(nn.Module):
    """A network with its normalisation: float [N,C,H,W] in [0,1] -> logits [N, classes]."""

    def __init__(self, normalise: Normalise, layers: nn.Module):
        super().__init__()
        self.normalise = normalise
        self.layers = layers

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.normalise(images))


def _per_channel(name: str, values: float | list[float], channels: int) -> Tensor:
    flat = torch.tensor(values, dtype=torch.float64).flatten()
    if len(flat) not in (1, channels):
        raise BadInput(
            f"settings.{name}: {len(flat)} values for images of {channels} channels; give one "
            f"number or {channels}"
        )
    return flat.expand(channels).reshape(1, channels, 1, 1).to(torch.get_default_dtype())
