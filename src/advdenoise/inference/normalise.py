"""The first layer of every classifier: pixels in [0,1] become what the network was trained on."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput


class Normalise(nn.Module):
    """Bilinear resizing where `size` is given, then (images - mean) / std.

    `images` float [N,C,H,W] in [0,1]. `mean` and `std` are one number or one for each of the
    `channels`, in pixel units; `size` is the side or [height, width] that the network sees.
    Raises BadInput where they do not fit the channels or a standard deviation is not positive.
    Nothing of it enters the weights file: it is a setting, not learnt.
    """

    def __init__(
        self,
        channels: int,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        size: int | list[int] | None = None,
    ):
        super().__init__()
        self.register_buffer("mean", _per_channel("mean", mean, channels), persistent=False)
        self.register_buffer("std", _per_channel("std", std, channels), persistent=False)
        if not (self.std > 0).all():
            raise BadInput(f"settings.std: {std} is not positive; give standard deviations above 0")
        self.size = (size, size) if isinstance(size, int) else size
        self._centred = not self.mean.any()
        self._scaled = bool((self.std == 1).all())

    def forward(self, images: Tensor) -> Tensor:
        if self.size is not None:
            images = functional.interpolate(images, self.size, mode="bilinear", align_corners=False)
        return self.scale(images)

    def scale(self, images: Tensor) -> Tensor:
        """(images - mean) / std at the size that they have."""
        if not self._centred:
            images = images - self.mean
        return images if self._scaled else images / self.std

    def unscale(self, images: Tensor) -> Tensor:
        """images * std + mean at the size that they have: what `scale` was given."""
        return images * self.std + self.mean

    def without_std(self) -> "Normalise":
        """The same with standard deviation 1, for a network that divides by it itself."""
        changed = copy.deepcopy(self)
        changed.std.fill_(1)
        changed._scaled = True
        return changed


class Normalised(nn.Module):
    """A network behind its normalisation: float [N,C,H,W] in [0,1] -> logits [N, classes]."""

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
