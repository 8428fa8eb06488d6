"""Converts a classifier that is a sequence of layers into a `Stack` of steps.

Two exact rewritings save work. A max-pool is applied before the increasing functions that precede
it in the network, which leaves them fewer values. A batch norm right before a linear step becomes
part of that step's weights. So some maps of the network are no longer computed: their `Source` is a
map of the stack and the deferred functions to be applied to it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from advdenoise.inference.elu import FastELU, ShiftedELU
from advdenoise.inference.fold import batch_norm_affine
from advdenoise.inference.hooks import hooked_module
from advdenoise.inference.normalise import Normalise
from advdenoise.inference.steps import (
    Affine,
    AveragePool,
    Convolution,
    Dense,
    Function,
    MaxPool,
    Pointwise,
    Step,
)

IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
INCREASING = (nn.ReLU6, nn.Hardtanh, nn.SELU, nn.Sigmoid, nn.Tanh, nn.Softplus)
OTHER_POINTWISE = (nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
ELUS = (nn.ELU, FastELU, nn.CELU)


class NotSequential(Exception):
    """Why a network is not a sequence of supported layers."""


@dataclass(frozen=True)
class Source:
    """A map of the network, [C, H, W]: map `index` of the stack after the `deferred` functions."""

    index: int
    deferred: tuple[Affine | Function, ...]
    shape: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Stack:
    """A network from images [N, H, W, C] to logits [N, 1, 1, classes].

    Attributes:
        steps: step i computes map i + 1 from map i; map 0 are the images.
        shapes: [C, H, W] of each map.
        sources: the output of each module, by its name.
    """

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, int, int], ...]
    sources: dict[str, Source]

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield all maps of images [N, H, W, C]."""
        maps = images
        yield maps
        for step in self.steps:
            maps = step.forward(maps)
            yield maps


def read_stack(network: nn.Module, image: Tensor, names: Sequence[str] = ()) -> Stack:
    """Convert a network into a stack, with one image [1, C, H, W] for the shapes.

    Raises:
        NotSequential: it is not a sequence of layers, it has hooks or an unsupported layer, or one
            of the modules `names` is not part of the sequence.
    """
    if hooked := hooked_module(network):
        raise NotSequential(f"{hooked} has a hook, which may change its output")
    try:
        graph = _Tracer().trace(network)
    except Exception as error:
        raise NotSequential(f"its forward pass cannot be traced ({error})") from None
    builder = _StackBuilder(image)
    for name, module in _chain(network, graph):
        builder.read(name, module)
    stack = builder.stack()
    for name in names:
        if name not in stack.sources:
            raise NotSequential(f"{name} is not part of the sequence")
    return stack


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(m.children())


def _chain(network: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules in the order of the sequence."""
    last = None
    for node in graph.nodes:
        if len(node.users) > 1:
            raise NotSequential(f"the output of {node.name} is read {len(node.users)} times")
        if node.op == "output":
            if node.args[0] is not last:
                raise NotSequential("its output is not that of its last layer")
            return
        if last is not None and (node.all_input_nodes != [last] or node.args[:1] != (last,)):
            raise NotSequential(f"{node.name} does not read the layer before it")
        last = node
        if node.op == "call_module":
            yield node.target, network.get_submodule(node.target)
        elif node.op == "call_function" and node.target is torch.flatten:
            yield node.name, nn.Flatten(*node.args[1:], **node.kwargs)
        elif node.op != "placeholder":
            raise NotSequential(f"{node.name} is not a module")


class _StackBuilder:
    def __init__(self, image: Tensor):
        self._maps = image.detach().permute(0, 2, 3, 1)
        self._steps: list = []
        self._shapes = [tuple(image.shape[1:])]
        self._sources: dict = {}
        self._deferred: list = []
        self._flat = False

    def stack(self) -> Stack:
        self._apply_deferred(len(self._deferred))
        if self._shapes[-1][1:] != (1, 1):
            raise NotSequential("it does not end in one value for each class")
        return Stack(tuple(self._steps), tuple(self._shapes), self._sources)

    def read(self, name: str, module: nn.Module) -> None:
        kind = type(module)
        if isinstance(module, nn.Conv2d):
            self._convolution(name, module)
        elif kind is nn.Linear:
            self._dense(name, module)
        elif kind in (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d):
            self._pool(name, module)
        elif kind is nn.Flatten:
            if (module.start_dim, module.end_dim) != (1, -1):
                raise NotSequential(f"{name} does not flatten all axes of an image")
            self._flat = True
        elif kind not in IDENTITIES:
            self._deferred += self._functions(name, module)
        self._record_source(name)

    def _record_source(self, name: str) -> None:
        source = Source(len(self._steps), tuple(self._deferred), self._shapes[-1])
        parts = name.split(".")
        # The output of a container is that of its last module.
        for count in range(1, len(parts) + 1):
            self._sources[".".join(parts[:count])] = source

    def _functions(self, name: str, module: nn.Module) -> list[Affine | Function]:
        kind = type(module)
        if kind is nn.ReLU:
            return [Function(torch.relu_, True)]
        if kind in ELUS and module.alpha == 1:
            elu = ShiftedELU(torch.zeros((), dtype=self._maps.dtype))
            return [Function(elu.to(self._maps.device), True)]
        if kind in ELUS or kind is nn.LeakyReLU:
            slope = module.negative_slope if kind is nn.LeakyReLU else module.alpha
            return [Function(module, slope >= 0)]
        if kind in (*INCREASING, *OTHER_POINTWISE):
            return [Function(module, kind in INCREASING)]
        if kind is ShiftedELU:
            ones = torch.ones_like(module.shift.flatten())
            return [
                *self._functions(name, nn.ELU()),
                self._affine(ones, module.shift.flatten()),
            ]
        if kind is Normalise and module.size is None:
            scale = 1 / module.std.double().flatten()
            return [self._affine(scale, -module.mean.double().flatten() * scale)]
        if kind in (nn.BatchNorm1d, nn.BatchNorm2d) and module.running_var is not None:
            if self._flat and self._shapes[-1][1:] != (1, 1):
                raise NotSequential(f"{name} normalises each element of a flattened map")
            return [self._affine(*batch_norm_affine(module))]
        raise NotSequential(f"{name} ({kind.__name__}) is not a supported layer")

    def _affine(self, scale: Tensor, shift: Tensor) -> Affine:
        channels = self._shapes[-1][0]
        return Affine(
            *(part.to(self._maps).expand(channels).contiguous() for part in (scale, shift))
        )

    def _convolution(self, name: str, layer: nn.Conv2d) -> None:
        if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
            raise NotSequential(f"{name} is not a convolution padded with zeros")
        if isinstance(layer.padding, str):
            layer = _with_numeric_padding(name, layer)
        self._add_linear(lambda before: Convolution(layer, before))

    def _dense(self, name: str, layer: nn.Linear) -> None:
        shape = self._shapes[-1]
        if not self._flat and shape[1:] != (1, 1):
            raise NotSequential(f"{name} reads a map that is not flattened")
        self._add_linear(lambda before: Dense(layer, before, shape))

    def _pool(self, name: str, layer: nn.Module) -> None:
        if type(layer) is nn.AdaptiveAvgPool2d:
            layer = _as_average_pool(name, layer, self._shapes[-1][1:])
        if layer.ceil_mode:
            raise NotSequential(f"{name} pools with ceil_mode")
        kernel, stride, padding = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
        if type(layer) is nn.AvgPool2d:
            if layer.divisor_override or (any(padding) and not layer.count_include_pad):
                raise NotSequential(f"{name} does not divide by the size of its windows")
            self._add_linear(lambda before: AveragePool(kernel, stride, padding, before))
            return
        if layer.return_indices:
            raise NotSequential(f"{name} returns indices")
        if not all(function.increasing for function in self._deferred):
            self._apply_deferred(len(self._deferred))
        self._add(MaxPool(kernel, stride, padding, _pair(layer.dilation)))

    def _add_linear(self, make: Callable[[tuple[Affine, ...]], Step]) -> None:
        start = len(self._deferred)
        while start and isinstance(self._deferred[start - 1], Affine):
            start -= 1
        before = tuple(self._deferred[start:])
        self._apply_deferred(start)
        self._deferred.clear()
        self._add(make(before))

    def _apply_deferred(self, count: int) -> None:
        for function in self._deferred[:count]:
            i = len(self._steps)
            self._add(Pointwise(function))
            for name, source in self._sources.items():
                if source.index == i and source.deferred[:1] == (function,):
                    remaining = source.deferred[1:]
                    self._sources[name] = Source(i + 1, remaining, source.shape)
        del self._deferred[:count]

    def _add(self, step: Step) -> None:
        with torch.inference_mode():
            self._maps = step.forward(self._maps)
        self._steps.append(step)
        _, height, width, channels = self._maps.shape
        self._shapes.append((channels, height, width))


def _with_numeric_padding(name: str, layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with its padding, "same" or "valid", as numbers."""
    spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if layer.padding == "same" and any(span % 2 for span in spans):
        raise NotSequential(f"{name} pads one end more than the other")
    layer = copy.copy(layer)
    layer.padding = tuple(span // 2 if layer.padding == "same" else 0 for span in spans)
    return layer


def _as_average_pool(
    name: str, layer: nn.AdaptiveAvgPool2d, shape: tuple[int, int]
) -> nn.AvgPool2d:
    """The average pool that equals an adaptive one for maps of this size."""
    pairs = list(zip(shape, _pair(layer.output_size), strict=True))
    if any(out and size % out for size, out in pairs):
        raise NotSequential(f"{name} averages over windows of unequal size")
    return nn.AvgPool2d([size // (out or size) for size, out in pairs])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int | None) else value
    return height, width
