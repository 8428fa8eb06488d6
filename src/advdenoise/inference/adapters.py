"""Networks that take or give something else than this project's, as this project takes them.

Such a network may take normalised images, images of one size, grey or colour ones alone; it may
give probabilities, an object with `logits`, or a tuple. Gradients pass the conversions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise

# Of red, green and blue in what is seen as grey (ITU-R 601), as torchvision and Pillow have it.
_LUMA = (0.299, 0.587, 0.114)


def input_shape(
    shape: tuple[int, int, int],
    size: int | list[int] | None = None,
    channels: int | None = None,
    **_,
) -> tuple[int, int, int]:
    """The shape [C, H, W] of what a network is given in the place of images of `shape`."""
    height, width = (size, size) if isinstance(size, int) else size or shape[1:]
    return channels or shape[0], height, width


def own_units(network: nn.Module, images: Tensor) -> Tensor:
    """Images in the units and channels that a network computes with, at the size that they have."""
    if isinstance(network, _Adapter):
        return own_units(network._network, network.scale(images))
    normalise = getattr(network, "normalise", None)
    return normalise.scale(images) if isinstance(normalise, Normalise) else images


class _Adapter(nn.Module):
    """A network that is given images of `shape` [C, H, W] in [0,1], converted to what it takes.

    First to `channels`, then bilinearly to `size` (a side or [height, width]), then by
    (images - mean) / std, numbers or one for each channel. The weights and the modules keep the
    names that they have in the network: they are those of `state_dict` and `named_modules`.

    Raises BadInput, which begins with the argument's name, where these do not fit the images.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, int, int],
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        size: int | list[int] | None = None,
        channels: int | None = None,
    ):
        super().__init__()
        self._shape = tuple(shape)
        self._taken = input_shape(shape, size, channels)
        self._check_channels()
        for name, values in (("mean", mean), ("std", std)):
            if isinstance(values, list) and len(values) not in (1, self._taken[0]):
                raise BadInput(
                    f"{name}: {len(values)} values for images of {self._taken[0]} channels; give "
                    f"one number or {self._taken[0]}"
                )
        self._converts = (mean, std) != (0.0, 1.0) or self._taken != self._shape
        self._normalise = Normalise(self._taken[0], mean, std, size)
        self._network = network

    def _check_channels(self) -> None:
        if (self._shape[0], self._taken[0]) not in ((1, 3), (3, 1), (self._shape[0],) * 2):
            raise BadInput(
                f"channels: {self._taken[0]} for images of {self._shape[0]}; only grey and colour "
                "are converted into each other"
            )

    def forward(self, images: Tensor) -> Tensor:
        inputs = self._normalise(self._in_channels(images)) if self._converts else images
        return self._outputs(self._network(inputs))

    def scale(self, images: Tensor) -> Tensor:
        """Images in the channels and units that the network takes, at the size that they have."""
        return self._normalise.scale(self._in_channels(images)) if self._converts else images

    def _in_channels(self, images: Tensor) -> Tensor:
        if self._taken[0] == self._shape[0]:
            return images
        if self._taken[0] == 3:
            return images.expand(-1, 3, -1, -1)
        weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
        return (images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)

    def _outputs(self, outputs) -> Tensor:
        raise NotImplementedError

    # ------------------------------------------------------------ the network's own names

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Copies are made by `__deepcopy__`, and the network's makes none of this.
            if name.startswith("__") or name == "_network":
                raise
            return getattr(self._network, name)

    def named_modules(
        self, memo=None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        own = f"{prefix}." if prefix else ""
        for name, module in super().named_modules(memo, prefix, remove_duplicate):
            inner = name.removeprefix(f"{own}_network.")
            yield (name if inner == name else own + inner), module

    def state_dict(self, *args, **kwargs):
        return self._network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        return self._network.load_state_dict(*args, **kwargs)


class AdaptedClassifier(_Adapter):
    """A classifier: float [N,C,H,W] in [0,1] -> logits.

    The network gives logits, `outputs` of which that are `probabilities`, an object with `logits`,
    or a tuple of which they are the first. Probabilities become their logarithms, of which softmax
    gives them back; those of 0 become the smallest that float32 has.
    """

    def __init__(self, network: nn.Module, shape, outputs: str = "logits", **conversion):
        super().__init__(network, shape, **conversion)
        self._are_probabilities = outputs == "probabilities"

    def _outputs(self, outputs) -> Tensor:
        if isinstance(outputs, tuple):
            outputs = outputs[0]
        elif not isinstance(outputs, Tensor | torch.fx.Proxy):
            outputs = getattr(outputs, "logits", outputs)
        if self._are_probabilities:
            outputs = outputs.clamp_min(torch.finfo(torch.float32).tiny).log()
        return outputs


class AdaptedDenoiser(_Adapter):
    """A denoiser: float [N,C,H,W] in [0,1] -> the same.

    The network gives back what it takes, or a tuple of which that is the first. What it takes
    converted is converted back, colours to grey by their mean, and clamped to [0,1] in eval mode.
    """

    def _check_channels(self) -> None:
        super()._check_channels()
        if self._taken[0] < self._shape[0]:
            raise BadInput(
                f"channels: a denoiser of {self._taken[0]} cannot give back images of "
                f"{self._shape[0]}; take `channels` out or choose another function"
            )

    def _outputs(self, outputs) -> Tensor:
        images = outputs[0] if isinstance(outputs, tuple) else outputs
        if not self._converts:
            return images
        images = self._normalise.unscale(images)
        if self._taken[1:] != self._shape[1:]:
            images = functional.interpolate(
                images, self._shape[1:], mode="bilinear", align_corners=False
            )
        if self._taken[0] != self._shape[0]:
            images = images.mean(1, keepdim=True)
        return images if self.training else images.clamp(0, 1)
