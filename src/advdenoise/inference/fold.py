"""The exact rewriting of a trained network for inference and input gradients.

Equal outputs and input gradients up to rounding, with fewer passes over memory:

- batch norm right after a convolution becomes part of its weights;
- batch norm elsewhere, s u + t = s (u + t/s), is pushed on: s into the weights of the next
  convolution or dense layer; t/s stays on u where that layer pads with zeros, which must not be
  shifted, and becomes part of its bias where it does not;
- max-pool before ReLU or ELU instead of after: both increase, so they commute with it and with the
  shift, and fewer values are left for them;
- the standard deviation of the first layer becomes part of the first convolution;
- dropout and identities go, activations overwrite what nothing else reads.
"""

import copy
import operator

import torch
from torch import Tensor, fx, nn

from advdenoise.inference.elu import FastELU, ShiftedELU
from advdenoise.inference.hooks import hooked_module
from advdenoise.inference.normalise import Normalise

IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)
ELUS = (nn.ELU, FastELU)
INCREASING = (nn.ReLU, *ELUS)
# Their outputs are new tensors that they do not keep, so that what follows may overwrite them.
FRESH = (nn.Conv2d, nn.Linear, nn.MaxPool2d, operator.add, operator.iadd)


def fold(network: nn.Module) -> nn.Module:
    """A copy of the network for inference: eval mode, frozen, channels-last, rewritten if possible.

    Images [N,C,H,W] -> the network's outputs, equal up to rounding (logits to about 1e-5 in
    float32), as is the input gradient; no second derivative. Where nothing can be rewritten, or
    the forward pass cannot be traced, the copy computes as the network does. A batch norm of which
    a scale is not positive stays as it is: dividing by it and pooling first need that. One without
    running statistics, and a network with hooks, are not rewritten either. The network itself is
    not touched.
    """
    network = copy.deepcopy(network).eval()
    try:
        graph = None if hooked_module(network) else _Tracer().trace(network)
    except Exception:  # Networks come from other libraries too; one that resists runs as it is.
        graph = None
    folded = network if graph is None else _Folding(network, graph).result()
    return folded.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, Normalise | FastELU)
        return leaf or super().is_leaf_module(m, module_qualified_name)


class _Shift(nn.Module):
    """Adds a constant [C,1,1] to each map."""

    def __init__(self, shift: Tensor):
        super().__init__()
        self.register_buffer("shift", shift)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.shift


class _Folding:
    """The rewriting of one network. Modules are replaced, not changed: nodes may share them."""

    def __init__(self, network: nn.Module, graph: fx.Graph):
        self._network = network
        self._folded = fx.GraphModule(network, graph)
        self._graph = self._folded.graph
        self._made = 0

    def result(self) -> nn.Module:
        self._skip_identities()
        self._merge_normalisation()
        self._merge_batch_norms()
        self._push_batch_norms()
        self._pool_first()
        self._overwrite()
        if not self._made:
            return self._network
        self._graph.lint()
        self._folded.delete_all_unused_submodules()
        self._folded.recompile()
        return self._folded

    def _skip_identities(self) -> None:
        for node in self._nodes(*IDENTITIES):
            self._drop(node)

    def _merge_normalisation(self) -> None:
        for node in self._nodes(Normalise):
            normalise, reader = self._at(node), _only(node.users)
            if self._absorbs(reader) and (normalise.std != 1).any():
                scale = 1 / normalise.std.flatten().double()
                self._put(reader, _scaled(self._at(reader), scale))
                self._put(node, normalise.without_std())

    def _merge_batch_norms(self) -> None:
        """conv, batch norm -> conv."""
        for node in self._batch_norms():
            source = node.args[0]
            if type(self._at(source)) is not nn.Conv2d or len(source.users) > 1:
                continue
            conv, (scale, shift) = self._at(source), _affine(self._at(node))
            bias = shift if conv.bias is None else shift + scale * conv.bias.double()
            self._put(source, _layer(conv, conv.weight.double() * scale[:, None, None, None], bias))
            self._drop(node)

    def _push_batch_norms(self) -> None:
        """batch norm, conv -> shift, conv, or conv; likewise across max-pool and flatten."""
        for node in self._batch_norms():
            scale, shift = _affine(self._at(node))
            reader = self._next_layer(node)
            if reader is None or not (scale > 0).all():
                continue
            layer = _scaled(self._at(reader), scale)
            shift = shift / scale
            if _pads(layer):
                name = self._add(_Shift(shift[:, None, None].to(layer.weight.dtype)))
                with self._graph.inserting_before(reader):
                    reader.args = (self._graph.call_module(name, reader.args),)
            else:
                layer = _shifted(layer, shift)
            self._put(reader, layer)
            self._drop(node)

    def _pool_first(self) -> None:
        """activation, max-pool -> max-pool, activation."""
        for pool in self._nodes(nn.MaxPool2d):
            activation = pool.args[0]
            module, source = self._at(activation), activation.args[0] if activation.args else None
            if type(module) not in INCREASING or self._at(pool).return_indices:
                continue
            if len(activation.users) > 1 or len(source.users) > 1:
                continue
            if any(self._overwrites(reader, pool) for reader in pool.users):
                continue  # It may overwrite what a pool gave, but not what an activation keeps.
            if isinstance(module, nn.ELU) and module.alpha < 0:
                continue
            with self._graph.inserting_after(pool):
                after = self._graph.call_module(self._add(module), (pool,))
            pool.replace_all_uses_with(
                after, delete_user_cb=lambda user, new=after: user is not new
            )
            pool.args = (source,)
            self._graph.erase_node(activation)

    def _overwrite(self) -> None:
        """Activations in place; ELUs together with the shift behind them."""
        for node in self._nodes(nn.ReLU):
            if self._is_fresh(node.args[0]) and not self._at(node).inplace:
                self._put(node, nn.ReLU(inplace=True))
        for node in self._nodes(*ELUS):
            if self._at(node).alpha != 1:
                continue
            if not self._is_fresh(node.args[0]) or not self._is_read_once(node):
                self._put(node, FastELU())
                continue
            shift = torch.zeros(())
            reader = _only(node.users)
            if type(self._at(reader)) is _Shift:
                shift = self._at(reader).shift
                self._drop(reader)
            self._put(node, ShiftedELU(shift))

    def _is_fresh(self, node: fx.Node) -> bool:
        made_by = type(self._at(node)) if self._at(node) is not None else node.target
        if made_by is operator.iadd and len(node.args[0].users) > 1:
            return False
        return made_by in FRESH and len(node.users) == 1

    def _overwrites(self, reader: fx.Node, node: fx.Node) -> bool:
        """Whether a reader of a node may work in place: known not to are modules and sums."""
        if (module := self._at(reader)) is not None:
            return getattr(module, "inplace", False)
        if reader.target is operator.iadd:
            return reader.args[0] is node
        return reader.target is not operator.add

    def _is_read_once(self, node: fx.Node) -> bool:
        """Whether a layer is all that reads it, so that its gradient is a new tensor."""
        reader = _only(node.users)
        while type(self._at(reader)) in (_Shift, nn.Flatten):
            reader = _only(reader.users)
        return type(self._at(reader)) in (nn.Conv2d, nn.Linear)

    def _next_layer(self, node: fx.Node) -> fx.Node | None:
        """The convolution or dense layer that alone reads a map, at most pooled and flattened."""
        reader, flat = _only(node.users), False
        while type(self._at(reader)) in (nn.MaxPool2d, nn.Flatten):
            flat = flat or type(self._at(reader)) is nn.Flatten
            reader = _only(reader.users)
        wanted = nn.Linear if flat else nn.Conv2d
        return reader if self._absorbs(reader) and type(self._at(reader)) is wanted else None

    def _absorbs(self, node: fx.Node | None) -> bool:
        """Whether a scale of its input may become part of a node's weights."""
        layer = self._at(node)
        if type(layer) is nn.Conv2d:
            return layer.groups == 1 and layer.padding_mode == "zeros"
        return type(layer) is nn.Linear

    def _batch_norms(self) -> list[fx.Node]:
        """Those whose statistics are fixed, and not the batch's own."""
        nodes = self._nodes(nn.BatchNorm2d)
        return [node for node in nodes if self._at(node).running_var is not None]

    def _nodes(self, *kinds: type) -> list[fx.Node]:
        return [node for node in self._graph.nodes if type(self._at(node)) in kinds]

    def _at(self, node: fx.Node | None) -> nn.Module | None:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        return self._folded.get_submodule(node.target)

    def _put(self, node: fx.Node, module: nn.Module) -> None:
        node.target = self._add(module)

    def _add(self, module: nn.Module) -> str:
        name = f"folded_{self._made}"
        self._folded.add_submodule(name, module)
        self._made += 1
        return name

    def _drop(self, node: fx.Node) -> None:
        node.replace_all_uses_with(node.args[0])
        self._graph.erase_node(node)


def _only(users: dict[fx.Node, None]) -> fx.Node | None:
    return next(iter(users)) if len(users) == 1 else None


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """s and t of s u + t, float64 [C], which a batch norm is in eval mode."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -scale * norm.running_mean.double()
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _scaled(layer: nn.Conv2d | nn.Linear, scale: Tensor) -> nn.Module:
    """The layer for inputs without their scale [C]; a dense layer sees each channel's elements."""
    weight = layer.weight.double()
    scale = scale.repeat_interleave(weight.shape[1] // len(scale))
    return _layer(layer, weight * scale.view(1, -1, *[1] * (weight.dim() - 2)), layer.bias)


def _shifted(layer: nn.Conv2d | nn.Linear, shift: Tensor) -> nn.Module:
    """The layer, which pads nothing, for inputs without their shift [C]."""
    weight = layer.weight.double().flatten(1)
    more = weight @ shift.repeat_interleave(weight.shape[1] // len(shift))
    return _layer(layer, layer.weight, more if layer.bias is None else more + layer.bias.double())


def _layer(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Module:
    changed = copy.deepcopy(layer)
    dtype = layer.weight.dtype
    changed.weight = nn.Parameter(weight.to(dtype))
    changed.bias = None if bias is None else nn.Parameter(bias.to(dtype))
    return changed


def _pads(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.padding not in ((0, 0), "valid")
