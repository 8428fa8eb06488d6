"""The steps of a `Stack`: how a change of a map propagates to the next one.

There are three kinds of steps:

- linear ones (convolution, average pool, dense layer) map the *change* of a map to the change of
  the next, without their bias;
- pointwise ones (activations, batch norm before an activation) and max-pools map *values*: the
  clean map plus its change.

Each step has `forward`, from a whole map to the next, and `forward_window`, from a window of it,
with the numbers of cells that the outputs depend on beyond the window, at both ends of both axes
(`pads`; negative if the window has cells that no output depends on).

Maps are float [N, H, W, C] here, contiguous, so that a window is a slice of rows; those of dense
layers are [N, 1, 1, C].
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

# Windows with at most this many elements are convolved by a matrix product.
FEW_ELEMENTS = 64

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Geometry:
    """The dependence of a step's outputs on its inputs along one axis.

    `receptive_field` is the extent of the inputs of one output, in cells.
    """

    receptive_field: int = 1
    stride: int = 1
    padding: int = 0

    def input_range(self, start: int, stop: int) -> tuple[int, int]:
        """The range of inputs of the outputs [`start`, `stop`); it may extend beyond the map."""
        first = start * self.stride - self.padding
        return first, first + (stop - 1 - start) * self.stride + self.receptive_field

    def output_range(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """Those of `size` outputs that depend on inputs in [`start`, `stop`); at least one."""
        first = -((self.receptive_field - 1 - start - self.padding) // self.stride)
        last = (stop - 1 + self.padding) // self.stride
        first = min(max(first, 0), size - 1)
        return first, max(min(last, size - 1), first) + 1


@dataclass(frozen=True, eq=False)
class Affine:
    """scale u + shift for each channel: batch norm in eval mode, and normalisation."""

    scale: Tensor
    shift: Tensor

    @property
    def increasing(self) -> bool:
        return bool((self.scale > 0).all())

    def __call__(self, values: Tensor, channels: Tensor | slice = slice(None)) -> Tensor:
        return torch.addcmul(self.shift[channels], values, self.scale[channels])


@dataclass(frozen=True, eq=False)
class Function:
    """A function applied to each element; it may overwrite its argument."""

    function: Callable[[Tensor], Tensor]
    increasing: bool

    def __call__(self, values: Tensor, channels: Tensor | slice = slice(None)) -> Tensor:
        return self.function(values)


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A step that applies a function to each value."""

    function: Affine | Function
    linear = False
    axes = (Geometry(), Geometry())

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values.clone())

    def forward_window(self, values: Tensor, pads: Pads) -> Tensor:
        return self.function(values)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """A max-pool."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    linear = False

    @property
    def axes(self) -> tuple[Geometry, Geometry]:
        return _geometries(self.kernel, self.stride, self.padding, self.dilation)

    def forward(self, values: Tensor) -> Tensor:
        y, x = self.padding
        return self.forward_window(values, ((y, y), (x, x)))

    def forward_window(self, values: Tensor, pads: Pads) -> Tensor:
        values = _padded(values, pads, -torch.inf)
        for axis in (0, 1):
            values = self._largest(values, axis)
        return values

    def _largest(self, values: Tensor, axis: int) -> Tensor:
        """Pool along one axis. The maximum of slices is much faster than torch's pooling."""
        stride, dilation = self.stride[axis], self.dilation[axis]
        count = (values.shape[1 + axis] - self.axes[axis].receptive_field) // stride + 1
        index = [slice(None)] * 4
        largest = None
        for first in range(0, self.kernel[axis] * dilation, dilation):
            index[1 + axis] = slice(first, first + (count - 1) * stride + 1, stride)
            part = values[tuple(index)]
            largest = part if largest is None else torch.maximum(largest, part)
        return largest


@dataclass(frozen=True, eq=False)
class AveragePool:
    """An average pool, a linear step; zeros of the padding are counted."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    affines: tuple[Affine, ...]
    linear = True

    @property
    def axes(self) -> tuple[Geometry, Geometry]:
        return _geometries(self.kernel, self.stride, self.padding, (1, 1))

    def forward(self, values: Tensor) -> Tensor:
        maps = _nchw(_through(self.affines, values))
        return _nhwc(functional.avg_pool2d(maps, self.kernel, self.stride, self.padding))

    def forward_window(self, change: Tensor, pads: Pads) -> Tensor:
        for affine in self.affines:
            change = change * affine.scale
        maps = _nchw(_padded(change, pads, 0))
        return _nhwc(functional.avg_pool2d(maps, self.kernel, self.stride))


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution, a linear step; `weight` includes the scales of the `affines` before it."""

    layer: nn.Conv2d
    affines: tuple[Affine, ...]
    weight: Tensor = field(init=False)
    linear = True

    def __post_init__(self):
        weight = self.layer.weight.double()
        grouped = weight.shape[1]
        for affine in self.affines:
            scale = affine.scale.double().view(self.layer.groups, 1, grouped)
            rows = scale.expand(-1, len(weight) // self.layer.groups, -1).reshape(-1, grouped)
            weight = weight * rows[:, :, None, None]
        weight = weight.to(self.layer.weight.dtype)
        object.__setattr__(self, "weight", weight.contiguous(memory_format=torch.channels_last))

    @property
    def axes(self) -> tuple[Geometry, Geometry]:
        layer = self.layer
        return _geometries(layer.kernel_size, layer.stride, layer.padding, layer.dilation)

    def forward(self, values: Tensor) -> Tensor:
        return _nhwc(self.layer(_nchw(_through(self.affines, values))))

    def forward_window(self, change: Tensor, pads: Pads) -> Tensor:
        inputs = change[0].numel()
        if inputs > FEW_ELEMENTS:
            return self._convolve(change, pads)
        # A matrix product is faster for small windows; its rows are the outputs of unit vectors.
        unit_vectors = torch.eye(inputs, dtype=change.dtype, device=change.device)
        matrix = self._convolve(unit_vectors.view(-1, *change.shape[1:]), pads)
        return (change.flatten(1) @ matrix.flatten(1)).view(-1, *matrix.shape[1:])

    def _convolve(self, change: Tensor, pads: Pads) -> Tensor:
        masks, layer = len(change), self.layer
        padding, valid = [], []
        for axis, (low, high) in enumerate(pads):
            change, low, high = _crop_unused(change, 1 + axis, low, high)
            # torch pads both ends equally: outputs of excess padding are left out again.
            size, stride = low + change.shape[1 + axis] + high, layer.stride[axis]
            skipped = max(0, -(-(high - low) // stride))
            padding.append(low + skipped * stride)
            count = (size - self.axes[axis].receptive_field) // stride + 1
            valid.append(slice(skipped, skipped + count))
        result = functional.conv2d(
            _nchw(_pad_batch(change)),
            self.weight,
            None,
            layer.stride,
            padding,
            layer.dilation,
            layer.groups,
        )
        return _nhwc(result[:masks, :, valid[0], valid[1]])


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense layer of the flattened map; `weight` is [out, H, W, C], scaled as above."""

    layer: nn.Linear
    affines: tuple[Affine, ...]
    shape: tuple[int, int, int]
    weight: Tensor = field(init=False)
    linear = True
    axes = None

    def __post_init__(self):
        weight = self.layer.weight.double().view(-1, *self.shape)
        for affine in self.affines:
            weight = weight * affine.scale.double()[:, None, None]
        weight = weight.permute(0, 2, 3, 1).to(self.layer.weight.dtype).contiguous()
        object.__setattr__(self, "weight", weight)

    def forward(self, values: Tensor) -> Tensor:
        maps = _nchw(_through(self.affines, values))
        return self.layer(maps.flatten(1))[:, None, None]

    def forward_window(self, change: Tensor, rows: slice, columns: slice) -> Tensor:
        """The changes [N, h, w, C] are those of these rows and columns of the map."""
        weight = self.weight[:, rows, columns].flatten(1)
        return functional.linear(change.flatten(1), weight)[:, None, None]


Step = Pointwise | MaxPool | AveragePool | Convolution | Dense


def _geometries(kernel, stride, padding, dilation) -> tuple[Geometry, Geometry]:
    rows, columns = (
        Geometry(d * (k - 1) + 1, s, p)
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    )
    return rows, columns


def _through(functions: tuple[Affine, ...], values: Tensor) -> Tensor:
    for function in functions:
        values = function(values)
    return values


def _crop_unused(change: Tensor, axis: int, low: int, high: int) -> tuple[Tensor, int, int]:
    """The window without the cells that no output depends on, along one axis, and its pads."""
    size = change.shape[axis]
    if min(low, high) <= -size:  # Outputs depend on cells beyond the map only.
        return torch.zeros_like(change.narrow(axis, 0, 1)), 0, low + size + high - 1
    start, stop = max(0, -low), size - max(0, -high)
    return change.narrow(axis, start, stop - start), max(0, low), max(0, high)


def _pad_batch(change: Tensor) -> Tensor:
    """Pad the batch with zero changes to one of few sizes.

    On the CPU a convolution is compiled for each new shape, which takes longer than running it on a
    few windows; recently compiled ones are cached.
    """
    count = len(change)
    number = 4
    while number < count:
        number += max(4, 1 << (number.bit_length() - 2))
    if number == count or change.device.type != "cpu":
        return change
    return torch.cat([change, change.new_zeros(number - count, *change.shape[1:])])


def _padded(values: Tensor, pads: Pads, value: float) -> Tensor:
    """Pad rows and columns with `value`; negative numbers crop."""
    (top, bottom), (left, right) = pads
    if not any((top, bottom, left, right)):
        return values
    return functional.pad(values, (0, 0, left, right, top, bottom), value=value)


def _nchw(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


def _nhwc(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).contiguous()
