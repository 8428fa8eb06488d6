"""Adapters for networks whose inputs or outputs differ from this project's.

Such a network may take normalised images, images of one size, or only grey or colour images. It may
return probabilities, an object with `logits`, or a tuple. The conversions are differentiable.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise

# Weights of red, green and blue in the luminance (ITU-R 601), as in torchvision and Pillow
_LUMA = (0.299, 0.587, 0.114)


def input_shape(
    shape: tuple[int, int, int],
    size: int | list[int] | None = None,
    channels: int | None = None,
    **_,
) -> tuple[int, int, int]:
    """The shape [C, H, W] of a network's input after the conversion of images of `shape`."""
    height, width = (size, size) if isinstance(size, int) else size or shape[1:]
    return channels or shape[0], height, width


def to_network_units(network: nn.Module, images: Tensor) -> Tensor:
    """Images in the units and channels of a network's first layer, at their original size."""
    if isinstance(network, _Adapter):
        return to_network_units(network._network, network.scale(images))
    normalise = getattr(network, "normalise", None)
    return normalise.scale(images) if isinstance(normalise, Normalise) else images


class _Adapter(nn.Module):
    """A network with a conversion of its inputs, images [C, H, W] in [0,1].

    Images are converted to `channels`, resized to `size` (bilinear) and normalised by
    (images - mean) / std. `state_dict` and `named_modules` use the names of the network itself.

    Args:
        network: the network to adapt.
        shape: [C, H, W] of the images.
        mean, std: a number, or one for each of the network's channels.
        size: a side or [height, width] of the network's input; by default that of the images.
        channels: of the network's input, 1 or 3; by default those of the images.

    Raises:
        BadInput: beginning with the argument's name, for one that does not fit the images.
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
        self._input_shape = input_shape(shape, size, channels)
        self._check_channels()
        depth = self._input_shape[0]
        for name, values in (("mean", mean), ("std", std)):
            if isinstance(values, list) and len(values) not in (1, depth):
                raise BadInput(
                    f"{name}: must be a number or {depth} numbers, one for each channel, "
                    f"got {len(values)}"
                )
        self._has_conversion = (mean, std) != (0.0, 1.0) or self._input_shape != self._shape
        self._normalise = Normalise(self._input_shape[0], mean, std, size)
        self._network = network

    def _check_channels(self) -> None:
        depth, converted = self._shape[0], self._input_shape[0]
        if converted != depth and {converted, depth} != {1, 3}:
            raise BadInput(
                f"channels: must be {depth}, those of the images, got {converted}; only 1 and "
                "3 can be converted into each other"
            )

    def forward(self, images: Tensor) -> Tensor:
        inputs = self._normalise(self._convert_channels(images)) if self._has_conversion else images
        return self._outputs(self._network(inputs))

    def scale(self, images: Tensor) -> Tensor:
        """Images in the network's channels and units, at their original size."""
        if not self._has_conversion:
            return images
        return self._normalise.scale(self._convert_channels(images))

    def _convert_channels(self, images: Tensor) -> Tensor:
        if self._input_shape[0] == self._shape[0]:
            return images
        if self._input_shape[0] == 3:
            return images.expand(-1, 3, -1, -1)
        weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device)
        return (images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)

    def _outputs(self, outputs) -> Tensor:
        raise NotImplementedError

    # ------------------------------------------------------------ names of the network itself

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            # `__deepcopy__` of the network would return a network without the adapter.
            if name.startswith("__") or name == "_network":
                raise
            return getattr(self._network, name)

    def named_modules(
        self, memo=None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        start = f"{prefix}." if prefix else ""
        for name, module in super().named_modules(memo, prefix, remove_duplicate):
            inner = name.removeprefix(f"{start}_network.")
            yield (name if inner == name else start + inner), module

    def state_dict(self, *args, **kwargs):
        return self._network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        return self._network.load_state_dict(*args, **kwargs)


class AdaptedClassifier(_Adapter):
    """A classifier: float [N,C,H,W] in [0,1] -> logits.

    The network returns logits, an object with `logits`, or a tuple that begins with them. With
    `outputs="probabilities"` they are probabilities, which are converted to their logarithms, so
    that softmax restores them; 0 is replaced by the smallest normal float32 number.
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

    The network returns images like its inputs, or a tuple that begins with them. They are converted
    back (colour to grey by the mean of the channels) and, in eval mode, clamped to [0,1].
    """

    def _check_channels(self) -> None:
        super()._check_channels()
        depth, converted = self._shape[0], self._input_shape[0]
        if converted < depth:
            raise BadInput(
                f"channels: a denoiser of {converted} cannot return images of {depth}; "
                "remove `channels` or choose another function"
            )

    def _outputs(self, outputs) -> Tensor:
        images = outputs[0] if isinstance(outputs, tuple) else outputs
        if not self._has_conversion:
            return images
        images = self._normalise.unscale(images)
        if self._input_shape[1:] != self._shape[1:]:
            images = functional.interpolate(
                images, self._shape[1:], mode="bilinear", align_corners=False
            )
        if self._input_shape[0] != self._shape[0]:
            images = images.mean(1, keepdim=True)
        return images if self.training else images.clamp(0, 1)
