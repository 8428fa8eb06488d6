"""What a change of a map does to the next: the layers of a network that is a plain stack.

Three kinds of steps are enough:

- linear ones (convolution, average pool, dense layer) take the *change* of a map to the change of
  the next, without their bias;
- pointwise ones (activations, batch norm before an activation) and max-pools take *values*: the
  clean map plus its change.

Each step has `whole`, from a clean map to the next, and `window`, the same for a window of it,
given how many cells the outputs look at beyond the window at either end of either axis (`pads`;
negative where the window holds cells that none looks at).

Maps are float [N, H, W, C] here, contiguous, so that a window of them is a slice of rows; a dense
layer's are [N, 1, 1, C].
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

# Elements of a window that are few enough for a convolution to be a matrix product.
FEW = 64

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Geometry:
    """Which cells of a map a step's outputs look at, along one axis.

    `reach` is how many cells lie between the first and the last that one output looks at, both
    counted.
    """

    reach: int = 1
    stride: int = 1
    padding: int = 0

    def looks_at(self, start: int, stop: int) -> tuple[int, int]:
        """The inputs of the outputs from `start` to before `stop`; may lie beyond the map."""
        first = start * self.stride - self.padding
        return first, first + (stop - 1 - start) * self.stride + self.reach

    def seen_by(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """Which of `size` outputs look at inputs from `start` to before `stop`; at least one."""
        first = -((self.reach - 1 - start - self.padding) // self.stride)
        last = (stop - 1 + self.padding) // self.stride
        first = min(max(first, 0), size - 1)
        return first, max(min(last, size - 1), first) + 1


@dataclass(frozen=True, eq=False)
class Affine:
    """scale u + shift for each channel: batch norm in eval mode, and the first layer."""

    scale: Tensor
    shift: Tensor

    @property
    def increasing(self) -> bool:
        return bool((self.scale > 0).all())

    def __call__(self, values: Tensor, channels: Tensor | slice = slice(None)) -> Tensor:
        return torch.addcmul(self.shift[channels], values, self.scale[channels])


@dataclass(frozen=True, eq=False)
class Function:
    """The same function of every element; it may overwrite its argument."""

    function: Callable[[Tensor], Tensor]
    increasing: bool

    def __call__(self, values: Tensor, channels: Tensor | slice = slice(None)) -> Tensor:
        return self.function(values)


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A step that applies a function to values."""

    function: Affine | Function
    linear = False
    axes = (Geometry(), Geometry())

    def whole(self, values: Tensor) -> Tensor:
        return self.function(values.clone())

    def window(self, values: Tensor, pads: Pads) -> Tensor:
        return self.function(values)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """A step that takes the largest of the values in each window."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    linear = False

    @property
    def axes(self) -> tuple[Geometry, Geometry]:
        return _axes(self.kernel, self.stride, self.padding, self.dilation)

    def whole(self, values: Tensor) -> Tensor:
        y, x = self.padding
        return self.window(values, ((y, y), (x, x)))

    def window(self, values: Tensor, pads: Pads) -> Tensor:
        values = _padded(values, pads, -torch.inf)
        for axis in (0, 1):
            values = self._largest(values, axis)
        return values

    def _largest(self, values: Tensor, axis: int) -> Tensor:
        """Along one axis. Taking the larger of two slices is much faster than torch's pooling."""
        stride, dilation = self.stride[axis], self.dilation[axis]
        count = (values.shape[1 + axis] - self.axes[axis].reach) // stride + 1
        index = [slice(None)] * 4
        found = None
        for first in range(0, self.kernel[axis] * dilation, dilation):
            index[1 + axis] = slice(first, first + (count - 1) * stride + 1, stride)
            part = values[tuple(index)]
            found = part if found is None else torch.maximum(found, part)
        return found


@dataclass(frozen=True, eq=False)
class AveragePool:
    """A linear step: the mean over each window, zeros of the padding counted."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    before: tuple[Affine, ...]
    linear = True

    @property
    def axes(self) -> tuple[Geometry, Geometry]:
        return _axes(self.kernel, self.stride, self.padding, (1, 1))

    def whole(self, values: Tensor) -> Tensor:
        maps = _nchw(_through(self.before, values))
        return _nhwc(functional.avg_pool2d(maps, self.kernel, self.stride, self.padding))

    def window(self, change: Tensor, pads: Pads) -> Tensor:
        for affine in self.before:
            change = change * affine.scale
        maps = _nchw(_padded(change, pads, 0))
        return _nhwc(functional.avg_pool2d(maps, self.kernel, self.stride))


@dataclass(frozen=True, eq=False)
class Convolution:
    """A linear step. `weight` includes the scale of the affine functions before it."""

    layer: nn.Conv2d
    before: tuple[Affine, ...]
    weight: Tensor = field(init=False)
    linear = True

    def __post_init__(self):
        weight = self.layer.weight.double()
        grouped = weight.shape[1]
        for affine in self.before:
            scale = affine.scale.double().view(self.layer.groups, 1, grouped)
            rows = scale.expand(-1, len(weight) // self.layer.groups, -1).reshape(-1, grouped)
            weight = weight * rows[:, :, None, None]
        weight = weight.to(self.layer.weight.dtype)
        object.__setattr__(self, "weight", weight.contiguous(memory_format=torch.channels_last))

    @property
    def axes(self) -> tuple[Geometry, Geometry]:
        layer = self.layer
        return _axes(layer.kernel_size, layer.stride, layer.padding, layer.dilation)

    def whole(self, values: Tensor) -> Tensor:
        return _nhwc(self.layer(_nchw(_through(self.before, values))))

    def window(self, change: Tensor, pads: Pads) -> Tensor:
        inputs = change[0].numel()
        if inputs > FEW:
            return self._convolved(change, pads)
        # So small a window is faster as a vector; each unit vector's output is a row of the matrix.
        units = torch.eye(inputs, dtype=change.dtype, device=change.device)
        matrix = self._convolved(units.view(-1, *change.shape[1:]), pads)
        return (change.flatten(1) @ matrix.flatten(1)).view(-1, *matrix.shape[1:])

    def _convolved(self, change: Tensor, pads: Pads) -> Tensor:
        masks, layer = len(change), self.layer
        both, shown = [], []
        for axis, (low, high) in enumerate(pads):
            change, low, high = _seen_part(change, 1 + axis, low, high)
            # torch pads both ends alike: outputs made by too much of it are left out again.
            size, stride = low + change.shape[1 + axis] + high, layer.stride[axis]
            skipped = max(0, -(-(high - low) // stride))
            both.append(low + skipped * stride)
            count = (size - self.axes[axis].reach) // stride + 1
            shown.append(slice(skipped, skipped + count))
        found = functional.conv2d(
            _nchw(_filled_up(change)),
            self.weight,
            None,
            layer.stride,
            both,
            layer.dilation,
            layer.groups,
        )
        return _nhwc(found[:masks, :, shown[0], shown[1]])


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear step that reads the flattened map. `weight` is [out, H, W, C], scaled as above."""

    layer: nn.Linear
    before: tuple[Affine, ...]
    shape: tuple[int, int, int]
    weight: Tensor = field(init=False)
    linear = True
    axes = None

    def __post_init__(self):
        weight = self.layer.weight.double().view(-1, *self.shape)
        for affine in self.before:
            weight = weight * affine.scale.double()[:, None, None]
        weight = weight.permute(0, 2, 3, 1).to(self.layer.weight.dtype).contiguous()
        object.__setattr__(self, "weight", weight)

    def whole(self, values: Tensor) -> Tensor:
        maps = _nchw(_through(self.before, values))
        return self.layer(maps.flatten(1))[:, None, None]

    def window(self, change: Tensor, rows: slice, columns: slice) -> Tensor:
        """The changes [N, h, w, C] lie in these rows and columns of the map."""
        weight = self.weight[:, rows, columns].flatten(1)
        return functional.linear(change.flatten(1), weight)[:, None, None]


Step = Pointwise | MaxPool | AveragePool | Convolution | Dense


def _axes(kernel, stride, padding, dilation) -> tuple[Geometry, Geometry]:
    return tuple(
        Geometry(d * (k - 1) + 1, s, p)
        for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)
    )


def _through(functions: tuple[Affine, ...], values: Tensor) -> Tensor:
    for function in functions:
        values = function(values)
    return values


def _seen_part(change: Tensor, axis: int, low: int, high: int) -> tuple[Tensor, int, int]:
    """The window without the cells that none looks at, along one axis, and its pads."""
    size = change.shape[axis]
    if min(low, high) <= -size:  # Only cells beyond the map are looked at.
        return torch.zeros_like(change.narrow(axis, 0, 1)), 0, low + size + high - 1
    start, stop = max(0, -low), size - max(0, -high)
    return change.narrow(axis, start, stop - start), max(0, low), max(0, high)


def _filled_up(change: Tensor) -> Tensor:
    """With masks that change nothing, to one of few numbers of masks.

    On the CPU a convolution is compiled for each new shape, which takes longer than to run it on
    a few windows; what was compiled last is kept.
    """
    count = len(change)
    number = 4
    while number < count:
        number += max(4, 1 << (number.bit_length() - 2))
    if number == count or change.device.type != "cpu":
        return change
    return torch.cat([change, change.new_zeros(number - count, *change.shape[1:])])


def _padded(values: Tensor, pads: Pads, value: float) -> Tensor:
    """Rows and columns of `value` added at each end; left out where a number is negative."""
    (top, bottom), (left, right) = pads
    if not any((top, bottom, left, right)):
        return values
    return functional.pad(values, (0, 0, left, right, top, bottom), value=value)


def _nchw(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


def _nhwc(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).contiguous()
